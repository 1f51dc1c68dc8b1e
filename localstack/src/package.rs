//! Packaging a template: what `aws cloudformation package` does, for the local folders that our template names.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};

/// How the template names the code of a function: the folder that `cargo lambda build` writes.
const LOCAL_CODE: &str = "Code: ../target/lambda/";

/// The names of the functions whose code a template takes from local folders, in its order.
pub(crate) fn functions(template: &str) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for (number, line) in template.lines().enumerate() {
        let code = line.trim();
        if code.starts_with('#') || !code.starts_with("Code:") {
            continue;
        }
        let name = code
            .strip_prefix(LOCAL_CODE)
            .and_then(|rest| rest.strip_suffix('/'))
            .filter(|name| !name.is_empty() && !name.contains('/'))
            .with_context(|| format!("line {} of the template: `{code}` is not `{LOCAL_CODE}NAME/`", number + 1))?;
        names.push(name.to_owned());
    }
    ensure!(!names.is_empty(), "the template names no function's code");
    Ok(names)
}

/// Replaces each local folder by the object that holds its content. `keys` has the object of each function; every one
/// has to be used, and none may be missing.
pub(crate) fn package(template: &str, bucket: &str, keys: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let names = functions(template)?;
    if let Some(stray) = keys.keys().find(|name| !names.contains(name)) {
        bail!("the template has no function `{stray}`");
    }
    let mut packaged = template.to_owned();
    for name in &names {
        let key = keys.get(name).with_context(|| format!("nothing was built for the function `{name}`"))?;
        packaged = packaged
            .replace(&format!("{LOCAL_CODE}{name}/"), &format!("Code: {{ S3Bucket: \"{bucket}\", S3Key: \"{key}\" }}"));
    }
    Ok(packaged)
}

/// The names of the parameters that a template declares: what is at the first level below `Parameters:`, as our template
/// is written.
pub(crate) fn parameters(template: &str) -> Vec<&str> {
    let section = template.lines().skip_while(|line| *line != "Parameters:").skip(1);
    // What begins at the edge is the next section.
    let section = section.take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
    section
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
        .filter(|name| !name.starts_with([' ', '#']))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "\
Send:
  Properties:
    Code: ../target/lambda/send/
    # Code: ../target/lambda/commented/
Sync:
  Properties:
    Code: ../target/lambda/sync/
";

    fn keys(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), format!("{name}-1.zip"))).collect()
    }

    #[test]
    fn each_folder_becomes_its_object() {
        let packaged = package(TEMPLATE, "code", &keys(&["send", "sync"])).unwrap();
        assert!(packaged.contains("    Code: { S3Bucket: \"code\", S3Key: \"send-1.zip\" }\n"));
        assert!(packaged.contains("    Code: { S3Bucket: \"code\", S3Key: \"sync-1.zip\" }\n"));
        assert_eq!(packaged.lines().count(), TEMPLATE.lines().count());
    }

    #[test]
    fn a_function_that_was_not_built_is_named() {
        let error = package(TEMPLATE, "code", &keys(&["send"])).unwrap_err();
        assert!(error.to_string().contains("`sync`"));
    }

    #[test]
    fn a_function_that_the_template_lacks_is_named() {
        let error = package(TEMPLATE, "code", &keys(&["send", "sync", "notify"])).unwrap_err();
        assert!(error.to_string().contains("`notify`"));
    }

    #[test]
    fn code_of_another_form_is_refused() {
        assert!(functions("Code: ../somewhere/else/").is_err());
        assert!(functions("Code: ../target/lambda/a/b/").is_err());
        assert!(functions("Code:").is_err());
        assert!(functions("Resources: {}").is_err());
    }

    #[test]
    fn parameters_are_those_of_their_section() {
        let template = "Metadata:\n  A:\n\nParameters:\n  B:\n    Type: String\n    Allowed:\n  # C:\n\n  D:\n    Type: String\nE:\n  F:\n";
        assert_eq!(parameters(template), ["B", "D"]);
        assert!(parameters(include_str!("../../infra/template.yaml")).contains(&"TokenIssuer"));
    }

    #[test]
    fn the_template_of_this_project_can_be_packaged() {
        let template = include_str!("../../infra/template.yaml");
        let all = ["authorize", "connect", "send", "sync", "deliver", "presence", "notify", "media"];
        assert_eq!(functions(template).unwrap(), all);
    }
}
