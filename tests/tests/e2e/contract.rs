//! The deployed parts keep the contracts that the rules rely on: the same suites that the ports in memory keep.

use poste_tests::Deployment;

poste_sim::contract_tests!(async { Deployment::here().ports().await });
