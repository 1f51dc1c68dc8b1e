//! Makes the tests in `tests/semantics.rs` of the examples in `docs/SEMANTICS.md`: one for each block of Rust. Line N
//! of what is made is line N of the document, so that a test that fails names the place.

use std::{env, fs, io, path::Path};

const DOCUMENT: &str = "../../docs/SEMANTICS.md";

/// What every example begins with. The document says so, too.
const CAST: &str = "let scene = Scene::default(); \
    let (alice, bob, chat) = (scene.device(\"alice\", \"phone\"), scene.device(\"bob\", \"phone\"), scene.direct(\"alice\", \"bob\"));";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={DOCUMENT}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("no OUT_DIR"))?;
    fs::write(Path::new(&out).join("semantics.rs"), tests(&fs::read_to_string(DOCUMENT)?))
}

fn tests(document: &str) -> String {
    let (mut section, mut example, mut within) = (String::new(), 0, false);
    let mut lines = Vec::new();
    for line in document.lines() {
        lines.push(match line {
            "```rust" => {
                (example, within) = (example + 1, true);
                format!("#[test] #[allow(unused_variables)] fn {section}_{example}() {{ {CAST}")
            }
            "```" if within => {
                within = false;
                "}".to_owned()
            }
            code if within => code.to_owned(),
            _ => {
                if let Some(heading) = line.strip_prefix('#') {
                    (section, example) = (name(heading.trim_start_matches('#')), 0);
                }
                String::new()
            }
        });
    }
    lines.join("\n")
}

/// A heading as the name of a function.
fn name(heading: &str) -> String {
    let words: String =
        heading.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    words.split_whitespace().collect::<Vec<_>>().join("_")
}
