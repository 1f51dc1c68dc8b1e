//! The ports in memory keep the contracts that those of AWS keep. Twice: with lanes in the head, and without.

use std::sync::Arc;

use async_trait::async_trait;
use poste_domain::ports::{Parcel, Wake};
use poste_protocol::{Delivery, Digest, FromServer, Link};
use poste_sim::{
    Odds, Weather, World,
    contract::{FarEnd, Line, Ports},
};
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

fn ports(lanes_in_head: usize) -> Ports {
    let world = Arc::new(World::new(Weather::new(0, Odds::CALM), lanes_in_head));
    Ports {
        heads: world.clone(),
        lanes_in_head,
        log: world.clone(),
        members: world.clone(),
        marks: world.clone(),
        connections: world.clone(),
        lose_answers: false,
        presence: world.clone(),
        courier: world.clone(),
        callback: world.clone(),
        devices: world.clone(),
        mutes: world.clone(),
        wakes: world.clone(),
        pusher: world.clone(),
        uploads: world.clone(),
        quotas: world.clone(),
        files: world.clone(),
        far_end: Arc::new(Outside(world)),
    }
}

/// What is outside of the world.
struct Outside(Arc<World>);

struct Connected {
    world: Arc<World>,
    id: String,
    frames: UnboundedReceiver<String>,
}

#[async_trait]
impl FarEnd for Outside {
    async fn parcels(&self, _: usize) -> Vec<Parcel> {
        self.0.published()
    }

    async fn wakes(&self, _: usize) -> Vec<Wake> {
        self.0.wakes()
    }

    async fn put(&self, link: &Link, bytes: &[u8]) -> u16 {
        self.0.uploads(link, bytes.len() as u64, Digest::of(bytes))
    }

    async fn get(&self, link: &Link) -> Option<(u64, Digest)> {
        self.0.downloads(link)
    }

    async fn connect(&self) -> Box<dyn Line> {
        let id = Uuid::now_v7().to_string();
        let frames = self.0.open(&id);
        Box::new(Connected { world: self.0.clone(), id, frames })
    }
}

#[async_trait]
impl Line for Connected {
    fn id(&self) -> &str {
        &self.id
    }

    async fn hears(&mut self, delivery: &Delivery) {
        let frame = self.frames.recv().await.expect("the connection is open");
        let frame: FromServer = serde_json::from_str(&frame).expect("a frame");
        assert_eq!(frame, FromServer::Delivery(delivery.clone()));
    }

    async fn hang_up(&mut self) {
        self.world.close(&self.id);
    }

    async fn ends(&mut self) {
        while self.frames.recv().await.is_some() {}
    }
}

mod lanes_in_the_head {
    poste_sim::contract_tests!(std::future::ready(super::ports(10)));
}

mod lanes_outside {
    poste_sim::contract_tests!(std::future::ready(super::ports(0)));
}
