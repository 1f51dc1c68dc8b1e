//! Files, on the deployed stack: through the addresses that the function signs.

use poste_protocol::{
    Attachment, Code, ConversationId, Digest, Envelope, Link, MediaFile, MediaId, MediaState, MediaWish, Message,
    MessageId, MessagePlace, PartWish, UserId, part_count, part_range,
};
use poste_tests::{Deployment, Device, Store, checksum, seq};

/// A file, and where it is uploaded to.
struct File {
    media: MediaId,
    bytes: Vec<u8>,
    store: Store,
}

impl File {
    fn of(size: usize) -> Self {
        let bytes = (0..size).map(|n| n.to_le_bytes()[n % 3]).collect();
        Self { media: MediaId::fresh(), bytes, store: Store::new() }
    }

    fn announced(&self) -> MediaFile {
        MediaFile { size: self.bytes.len() as u64, sha256: checksum(&self.bytes), kind: "video/mp4".to_owned() }
    }

    fn part(&self, part: u32) -> &[u8] {
        let (from, bytes) = part_range(self.bytes.len() as u64, part);
        let end = usize::try_from(from + bytes).expect("small");
        &self.bytes[usize::try_from(from).expect("small")..end]
    }

    fn begin(&self, to: Option<&UserId>) -> MediaWish {
        MediaWish::Begin { to: to.cloned(), file: self.announced() }
    }

    /// An address for a part.
    async fn link(&self, device: &mut Device, conversation: &ConversationId, part: u32) -> Link {
        let wish = PartWish { part, sha256: Digest::of(self.part(part)) };
        match device.wants(conversation, self.media, MediaWish::Parts { parts: vec![wish] }).await {
            Ok(MediaState::Links { mut links }) => links.remove(0).link,
            other => panic!("{other:?}"),
        }
    }

    /// Uploads a part.
    async fn upload(&self, device: &mut Device, conversation: &ConversationId, part: u32) -> u16 {
        let link = self.link(device, conversation, part).await;
        self.store.put(&link, self.part(part).to_vec()).await
    }

    /// The envelope of a message with this file.
    fn shown(&self, envelope: Envelope) -> Envelope {
        let MediaFile { size, sha256, kind } = self.announced();
        let name = Some("the \"harbour\".mp4".to_owned());
        let media = Attachment { id: self.media, size, sha256, kind, name, pixels: None, thumbnail: None };
        Envelope { messages: vec![Message::of_media(MessageId::fresh(), "", media)], ..envelope }
    }
}

async fn get(
    device: &mut Device,
    conversation: &ConversationId,
    media: MediaId,
    message: MessagePlace,
) -> Result<Link, Code> {
    match device.wants(conversation, media, MediaWish::Get { message }).await {
        Ok(MediaState::Link { link }) => Ok(link),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.code),
    }
}

/// M1, M2, M4: a file of several parts, broken off, gone on with, completed twice and sent; the receiver gets it whole
/// and from the middle. As the first message to somebody.
#[tokio::test]
async fn a_long_file_comes_out_whole() {
    let deployment = Deployment::here();
    let [alice, bob] = ["alice", "bob"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let conversation = phone.with(&bob);
    let file = File::of(12 * 1024 * 1024 + 7);
    assert_eq!(part_count(file.bytes.len() as u64), 3);

    let begun = phone.wants(&conversation, file.media, file.begin(Some(&bob))).await;
    assert_eq!(begun, Ok(MediaState::Open { missing: vec![(1, 3)] }));
    assert_eq!(file.upload(&mut phone, &conversation, 2).await, 200);
    // Other bytes than announced are not taken, nor more of them.
    let link = file.link(&mut phone, &conversation, 1).await;
    let mut wrong = file.part(1).to_vec();
    wrong[9] ^= 1;
    assert_eq!(file.store.put(&link, wrong).await, 400);

    let shown = phone.writes(&bob, "");
    let shown = file.shown(shown);
    let refusal = phone.submit(poste_tests::submission(&shown)).await.expect_err("it is not there yet");
    assert_eq!(refusal.code, Code::NoMedia);

    let again = phone.wants(&conversation, file.media, file.begin(Some(&bob))).await;
    assert_eq!(again, Ok(MediaState::Open { missing: vec![(1, 1), (3, 3)] }));
    for part in [1, 3] {
        assert_eq!(file.upload(&mut phone, &conversation, part).await, 200);
    }
    for _ in 0..2 {
        let complete = phone.wants(&conversation, file.media, MediaWish::Complete).await;
        assert_eq!(complete, Ok(MediaState::Complete));
    }
    let begun = phone.wants(&conversation, file.media, file.begin(Some(&bob))).await;
    assert_eq!(begun, Ok(MediaState::Complete));
    let s3 = deployment.admin().s3();
    let key = format!("{conversation}/{alice}/{}", file.media);
    let tags = async || {
        let tags = s3.get_object_tagging().bucket(&deployment.stack().bucket).key(&key).send().await;
        tags.expect("it is there").tag_set.iter().map(|tag| format!("{}={}", tag.key, tag.value)).collect::<Vec<_>>()
    };
    assert_eq!(tags().await, ["poste=unsent"]);

    let shown = phone.writes(&bob, "");
    let shown = file.shown(shown);
    let place = phone.sends(&shown).await.seq;
    assert!(tags().await.is_empty(), "what is sent is kept");
    let heard = bobs.hears(&shown).await;
    let media = heard.messages[0].media.as_ref().expect("a file");
    let message = MessagePlace { seq: seq(place), id: shown.messages[0].id };
    let link = get(&mut bobs, &conversation, media.id, message).await.expect("an address");
    let came = file.store.get(&link, None).await.expect("the bytes");
    assert!(came == file.bytes, "bytes are equal");
    assert_eq!(checksum(&came), media.sha256);
    let rest = file.store.get(&link, Some(12_000_000)).await.expect("the rest");
    assert!(rest == file.bytes[12_000_000..]);
}

/// M3: a small file goes in one; who does not see its message does not get it; a delete for everyone removes it.
#[tokio::test]
async fn a_small_file_is_for_its_readers_and_goes_with_its_message() {
    let deployment = Deployment::here();
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut eves = deployment.device(&eve, "phone").await;
    let (hello, _) = phone.tells(&bob, "hello").await;
    let conversation = hello.conversation;
    let file = File::of(70_000);
    let eves_try = eves.wants(&conversation, file.media, file.begin(None)).await;
    assert_eq!(eves_try.expect_err("no member").code, Code::NotMember);
    phone.wants(&conversation, file.media, file.begin(None)).await.expect("begun");
    assert_eq!(file.upload(&mut phone, &conversation, 1).await, 200);
    assert_eq!(file.upload(&mut phone, &conversation, 1).await, 412, "it is there");
    let complete = phone.wants(&conversation, file.media, MediaWish::Complete).await;
    assert_eq!(complete, Ok(MediaState::Complete));

    // It is alice's: bob can neither send nor end it.
    let bobs_own = bobs.writes(&alice, "");
    let refusal = bobs.submit(poste_tests::submission(&file.shown(bobs_own))).await.expect_err("it is not his");
    assert_eq!(refusal.code, Code::NoMedia);
    assert_eq!(bobs.wants(&conversation, file.media, MediaWish::Abort).await, Ok(MediaState::Gone));

    let shown = phone.writes(&bob, "");
    let shown = file.shown(shown);
    let place = phone.sends(&shown).await.seq;
    let message = MessagePlace { seq: seq(place), id: shown.messages[0].id };
    let link = get(&mut bobs, &conversation, file.media, message).await.expect("an address");
    assert!(file.store.get(&link, None).await.expect("the bytes") == file.bytes);
    assert_eq!(get(&mut eves, &conversation, file.media, message).await, Err(Code::NotMember));
    // An address is for one file, and for what it says.
    let other = Link { url: link.url.replace(&file.media.to_string(), &MediaId::fresh().to_string()), ..link.clone() };
    assert_eq!(file.store.get(&other, None).await, Err(403));
    let bare = Link { url: link.url.split('?').next().expect("an address").to_owned(), ..link.clone() };
    assert_eq!(file.store.get(&bare, None).await, Err(403));

    let delete = phone.writes(&bob, "");
    let delete = Envelope {
        messages: vec![Message { deletes: Some(message), ..Message::new(MessageId::fresh(), "") }],
        ..delete
    };
    phone.sends(&delete).await;
    assert_eq!(get(&mut bobs, &conversation, file.media, message).await, Err(Code::NoMedia));
    assert_eq!(file.store.get(&link, None).await, Err(404), "also at the address that bob has");
}

/// What is not wanted any more is removed; what is bad is refused, with a word.
#[tokio::test]
async fn uploads_end_and_rubbish_is_refused() {
    let deployment = Deployment::here();
    let [alice, bob] = ["alice", "bob"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let (hello, _) = phone.tells(&bob, "hello").await;
    let conversation = hello.conversation;
    let file = File::of(6 * 1024 * 1024);
    phone.wants(&conversation, file.media, file.begin(None)).await.expect("begun");
    let link = file.link(&mut phone, &conversation, 1).await;
    assert_eq!(file.store.put(&link, file.part(1).to_vec()).await, 200);
    assert_eq!(phone.wants(&conversation, file.media, MediaWish::Abort).await, Ok(MediaState::Gone));
    assert_eq!(file.store.put(&link, file.part(1).to_vec()).await, 404);
    let code = |answer: Result<MediaState, poste_protocol::Refusal>| answer.map_err(|refusal| refusal.code);
    let parts = MediaWish::Parts { parts: vec![PartWish { part: 1, sha256: Digest::of(b"") }] };
    assert_eq!(code(phone.wants(&conversation, file.media, parts.clone()).await), Err(Code::NoMedia));
    assert_eq!(code(phone.wants(&conversation, file.media, MediaWish::Complete).await), Err(Code::NoMedia));
    let huge = MediaFile { size: 3 << 30, ..file.announced() };
    let begin = MediaWish::Begin { to: None, file: huge };
    assert_eq!(code(phone.wants(&conversation, file.media, begin).await), Err(Code::TooBig));
    for (field, value) in [("op", "\"eat\""), ("size", "-1"), ("sha256", "\"no\""), ("media", "7"), ("kind", "[]")] {
        let mut frame = serde_json::json!({
            "action": "media", "ref": "x", "media": file.media, "conversation": conversation, "op": "begin",
            "size": 9, "sha256": Digest::of(b""), "kind": "image/png",
        });
        frame[field] = serde_json::from_str(value).expect("JSON");
        match phone.ask_raw(&frame.to_string()).await {
            poste_protocol::FromServer::Error(error) => assert_eq!(error.refusal.code, Code::BadFrame, "{field}"),
            other => panic!("{field}: {other:?}"),
        }
    }
    phone.hello().await;
}

/// M3: the deployed bucket is private and encrypted. What it cleans up by itself, the emulator leaves out of it: the
/// template must name the tag that uploads carry.
#[tokio::test]
async fn the_bucket_is_private_and_cleans_up() {
    let template = include_str!("../../../infra/template.yaml");
    for rule in ["TagFilters: [{ Key: poste, Value: unsent }]", "AbortIncompleteMultipartUpload:"] {
        assert!(template.contains(rule), "the template has {rule}");
    }
    let deployment = Deployment::here();
    let (s3, bucket) = (deployment.admin().s3(), &deployment.stack().bucket);
    let block = s3.get_public_access_block().bucket(bucket).send().await.expect("an answer");
    let block = block.public_access_block_configuration().expect("it is private");
    let blocked = [
        block.block_public_acls(),
        block.block_public_policy(),
        block.ignore_public_acls(),
        block.restrict_public_buckets(),
    ];
    assert_eq!(blocked, [Some(true); 4]);
    let encryption = s3.get_bucket_encryption().bucket(bucket).send().await.expect("an answer");
    assert!(!encryption.server_side_encryption_configuration().expect("it is encrypted").rules().is_empty());
}
