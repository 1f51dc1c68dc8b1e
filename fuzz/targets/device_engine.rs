#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| poste_client::fuzz::device_engine(data));
