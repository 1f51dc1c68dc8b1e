//! Waking, on a scene: tokens, mutes, the push queue and what the provider was given.

use poste_domain::{ports::Wake, wake::Fate};
use poste_protocol::{
    FromServer, Hello, MuteFrame, Platform, ProviderToken, PushFrame, PushStatus, PushStyle, PushToken, Refusal,
    Request,
};

use super::{Chat, Device, Halted, Scene, Work, user_id};
use crate::{memory::Made, weather::Moment};

/// The wait after a failure, in milliseconds.
const AGAIN_MS: u64 = 1_000;

impl Scene {
    /// The push queue hands out what is due. What must come again stays in it.
    pub fn wakes(&self) {
        self.stage.runtime.block_on(self.notifies());
    }

    /// The same; the function halts.
    pub fn wakes_until(&self, moment: Moment) -> Halted<()> {
        self.stage.until(moment, self.notifies())
    }

    fn notifies(&self) -> Work<()> {
        let (functions, world) = (self.stage.functions.borrow().clone(), self.stage.world.clone());
        Box::pin(async move {
            let mut due = Vec::new();
            while let Some(taken) = world.take_wake(|_| 0) {
                due.push(taken);
            }
            let wakes: Vec<Wake> = due.iter().map(|(wake, _)| wake.clone()).collect();
            let fates = functions.waking.wake(&wakes).await;
            for ((wake, receives), fate) in due.into_iter().zip(fates) {
                if let Fate::Again(after) = fate {
                    world.put_back(wake, receives, after.unwrap_or(AGAIN_MS));
                }
            }
        })
    }

    /// What the provider was given for a user's devices: the device, the number of the message and the badge.
    pub fn pushes(&self, user: &str) -> Vec<(String, u64, u64)> {
        let user = user_id(user);
        let to_user = self.stage.world.pushes().into_iter().filter(|made| made.to.user == user);
        to_user.map(|Made { to, push, .. }| (to.device.to_string(), push.seq.get(), push.badge)).collect()
    }
}

impl Device {
    /// Registers a push token; without one, ends the registration.
    pub fn registers(&self, token: Option<&str>) -> PushStatus {
        let token = token.map(|token| PushToken {
            platform: Platform::Fcm,
            token: ProviderToken::new(token).expect("a well-formed token"),
            style: PushStyle::Alert,
        });
        let push = Request::Push(PushFrame { reference: self.reference(), token });
        match self.stage.runtime.block_on(self.asks(&push)) {
            FromServer::Push(answer) => answer.status,
            other => panic!("{other:?}"),
        }
    }

    /// Says that it is awake, and asks whether it would be woken.
    pub fn is_awake(&self) -> Option<PushStatus> {
        let hello = Request::Hello(Hello { push: true, ..Hello::new(self.reference()) });
        match self.stage.runtime.block_on(self.asks(&hello)) {
            FromServer::Welcome(welcome) => welcome.push,
            other => panic!("{other:?}"),
        }
    }

    /// Mutes a conversation for so many seconds; without them, no longer.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn mutes(&self, direct: &Chat, seconds: Option<u64>) -> Result<(), Refusal> {
        let until = seconds.map(|seconds| self.stage.now_ms() + seconds * 1_000);
        let mute = MuteFrame { reference: self.reference(), conversation: direct.id.clone(), until };
        match self.stage.runtime.block_on(self.asks(&Request::Mute(mute))) {
            FromServer::Muted(_) => Ok(()),
            FromServer::Error(error) => Err(error.refusal),
            other => panic!("{other:?}"),
        }
    }
}
