//! Writes the side of another language from the built library: `uniffi-bindgen generate --library FILE --language
//! kotlin --out-dir FOLDER`.

fn main() {
    uniffi::uniffi_bindgen_main();
}
