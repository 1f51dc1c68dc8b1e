//! What people write, and what opens a door, is in no log line: `Debug` shows how long it is and nothing more.

use std::fmt;

/// Stands in `Debug` for a text that is nobody's to see. Shows its length.
pub struct Hidden(Option<usize>);

impl From<&String> for Hidden {
    fn from(text: &String) -> Self {
        Self(Some(text.len()))
    }
}

impl From<&Option<String>> for Hidden {
    fn from(text: &Option<String>) -> Self {
        Self(text.as_ref().map(String::len))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "<{bytes} bytes>"),
            None => f.write_str("None"),
        }
    }
}

/// Implements `Debug` for a struct: the first fields as they are, of the others their length. Every field is in one of the
/// two lists.
#[macro_export]
macro_rules! discreet {
    ($type:ident { $($shown:ident),* $(,)? } hides { $($hidden:ident),+ $(,)? }) => {
        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let Self { $($shown,)* $($hidden,)+ } = self;
                f.debug_struct(stringify!($type))
                    $(.field(stringify!($shown), $shown))*
                    $(.field(stringify!($hidden), &$crate::Hidden::from($hidden)))+
                    .finish()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::{
        Attachment, ConversationId, Digest, Envelope, EnvelopeId, Event, FromServer, GroupSummary, Link, MediaId,
        MembersPage, Message, MessageId, Number, Platform, ProviderToken, PushFrame, PushStyle, PushToken, Reference,
        Request, Role, SendFrame, Seq, Submission,
    };

    /// Every text in a frame that a person wrote, or that opens a door, is `SECRET`.
    const SECRET: &str = "SECRET";

    #[test]
    fn no_frame_shows_what_is_in_it() {
        let reference = || Reference::new("r").expect("valid");
        let secret = || SECRET.to_owned();
        let media = Attachment {
            id: MediaId::fresh(),
            size: 1,
            sha256: Digest::of(b""),
            kind: "image/png".to_owned(),
            name: Some(secret()),
            pixels: None,
            thumbnail: Some(secret()),
        };
        let events = [Event::Created { title: secret(), members: Vec::new() }, Event::Titled { title: secret() }];
        let messages = events.map(|event| Message::of_event(MessageId::fresh(), event)).into_iter();
        let messages = messages.chain([Message::of_media(MessageId::fresh(), secret(), media)]).collect();
        let conversation = ConversationId::group();
        let envelope = Envelope {
            id: EnvelopeId::fresh(),
            conversation: conversation.clone(),
            to: None,
            number: Number::FIRST,
            messages,
        };
        let submission = Submission { envelope, age_ms: 0, attempt: 1, resolved: None };
        let send =
            Request::Send(SendFrame { reference: reference(), submissions: vec![submission], marks: Vec::new() });
        let token = ProviderToken::new(SECRET).expect("valid");
        let token = Some(PushToken { platform: Platform::Fcm, token, style: PushStyle::Alert });
        let push = Request::Push(PushFrame { reference: reference(), token });
        let members = MembersPage {
            reference: reference(),
            conversation,
            roster: Seq::ZERO,
            title: secret(),
            members: Vec::new(),
            next: None,
        };
        let summary = GroupSummary { title: secret(), role: Role::Member, left: false, members: 1, roster: Seq::ZERO };
        let headers = [("x-amz-checksum-sha256".to_owned(), secret())].into();
        let link = Link { url: format!("https://bucket/key?X-Amz-Signature={SECRET}"), headers, expires_s: 1 };
        let shown = [
            format!("{send:?}"),
            format!("{push:#?}"),
            format!("{:?}", FromServer::Members(members)),
            format!("{summary:?}"),
            format!("{link:?}"),
        ];
        for shown in shown {
            assert!(!shown.contains(SECRET), "{shown}");
        }
        assert!(format!("{send:?}").contains("body: <6 bytes>"), "but how long it is");
    }
}
