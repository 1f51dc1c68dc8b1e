#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| poste_protocol::fuzz::device_frames(data));
