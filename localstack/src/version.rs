//! What is deployed: the template of a version, and the functions that it names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::deploy::Artifact;
use crate::{functions, package};

/// A version of the project as it can be deployed.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// Its template, as it is in the repository.
    pub(crate) template: String,
    /// The binaries of its functions, by name.
    pub(crate) binaries: BTreeMap<String, PathBuf>,
    /// Whether it is older than this program: it may lack parameters and outputs of now.
    pub(crate) older: bool,
}

/// A version that is ready to be deployed.
#[derive(Debug)]
pub(crate) struct Packaged {
    /// The template, which names the objects that hold the functions' code.
    pub(crate) template: String,
    /// What is put into these objects.
    pub(crate) artifacts: Vec<Artifact>,
}

impl Version {
    /// Makes its template name objects of a bucket.
    pub(crate) fn packaged(&self, bucket: &str) -> anyhow::Result<Packaged> {
        let mut keys = BTreeMap::new();
        let mut artifacts = Vec::new();
        for (name, executable) in &self.binaries {
            let key = functions::content_key(name, executable)?;
            keys.insert(name.clone(), key.clone());
            artifacts.push(Artifact { key, executable: executable.clone() });
        }
        Ok(Packaged { template: package::package(&self.template, bucket, &keys)?, artifacts })
    }

    /// Of the parameters, those that it is given: CloudFormation refuses what a template does not declare.
    pub(crate) fn takes(&self, mut parameters: BTreeMap<&'static str, String>) -> BTreeMap<&'static str, String> {
        if self.older {
            let declared = package::parameters(&self.template);
            parameters.retain(|name, _| declared.contains(name));
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_is_given_what_it_knows() {
        let template = "Parameters:\n  Stage:\n    Type: String\nResources:\n".to_owned();
        let version = |older| Version { template: template.clone(), binaries: BTreeMap::new(), older };
        let parameters = BTreeMap::from([("Stage", "prod".to_owned()), ("Later", "1".to_owned())]);
        assert_eq!(version(true).takes(parameters.clone()), BTreeMap::from([("Stage", "prod".to_owned())]));
        // What is wrong with the template of now is for CloudFormation to say.
        assert_eq!(version(false).takes(parameters.clone()), parameters);
    }
}
