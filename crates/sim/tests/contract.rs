//! The ports in memory keep the contracts that those of AWS keep. Twice: with lanes in the head, and without.

use std::sync::Arc;

use poste_sim::{Odds, Weather, World, contract::Ports};

fn ports(lanes_in_head: usize) -> Ports {
    let world = Arc::new(World::new(Weather::new(0, Odds::CALM), lanes_in_head));
    Ports {
        heads: world.clone(),
        lanes_in_head,
        log: world.clone(),
        members: world.clone(),
        marks: world.clone(),
        connections: world,
    }
}

mod lanes_in_the_head {
    poste_sim::contract_tests!(std::future::ready(super::ports(10)));
}

mod lanes_outside {
    poste_sim::contract_tests!(std::future::ready(super::ports(0)));
}
