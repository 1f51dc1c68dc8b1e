//! A device that speaks XMPP, as careful as the protocol lets it be: it knows by XEP-0198 what the server has taken and
//! sends the rest again, it says that it has taken something when that is done, and it asks the archive (XEP-0313) for
//! what comes after the last that it has, leaving out what it has by its id there. Written out, since libraries decide
//! some of that by themselves, and bring TLS, DNS and much else along.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quick_xml::XmlVersion;
use quick_xml::escape::escape;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use tokio::io::{AsyncBufRead, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::account::body;
use crate::peers::{Device, End, number_of};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Elements that came and were not looked at; more than any measurement lets come.
const ELEMENTS: usize = 100_000;
/// Messages of a page of the archive.
const PAGE: usize = 100;
/// Everybody's, on a server that only this machine can reach.
const PASSWORD: &str = "secret";
/// The name of what a user's device is called.
const RESOURCE: &str = "phone";

/// Something that was said, with what is in it.
#[derive(Debug, Default, PartialEq)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    fn read(tag: &BytesStart<'_>) -> anyhow::Result<Self> {
        let attribute = |attribute: Result<quick_xml::events::attributes::Attribute<'_>, _>| {
            let attribute = attribute?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0)?;
            anyhow::Ok((attribute.key.as_ref().to_owned(), value.into_owned()))
        };
        let attributes = tag.attributes().map(attribute).collect::<anyhow::Result<_>>()?;
        Ok(Self { name: tag.name().as_ref().to_owned(), attributes, ..Self::default() })
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }
}

/// What the other side says, element by element. The element around everything never ends, and is passed over.
struct Stream<R> {
    reader: Reader<R>,
    buffer: Vec<u8>,
    open: Vec<Element>,
}

impl<R: AsyncBufRead + Unpin> Stream<R> {
    fn new(from: R) -> Self {
        Self { reader: Reader::from_reader(from), buffer: Vec::new(), open: Vec::new() }
    }

    /// The next one; nothing when the other side has ended.
    async fn next(&mut self) -> anyhow::Result<Option<Element>> {
        loop {
            self.buffer.clear();
            let closed = match self.reader.read_event_into_async(&mut self.buffer).await? {
                Event::Start(tag) if tag.name().as_ref() == "stream:stream" => None,
                Event::Start(tag) => {
                    self.open.push(Element::read(&tag)?);
                    None
                }
                Event::Empty(tag) => Some(Element::read(&tag)?),
                Event::End(_) => match self.open.pop() {
                    Some(element) => Some(element),
                    None => return Ok(None),
                },
                Event::Text(text) => {
                    if let Some(around) = self.open.last_mut() {
                        around.text.push_str(&text.xml10_content());
                    }
                    None
                }
                Event::GeneralRef(name) => {
                    if let Some(around) = self.open.last_mut() {
                        let reference = format!("&{};", name.xml10_content());
                        around.text.push_str(&quick_xml::escape::unescape(&reference)?);
                    }
                    None
                }
                Event::Eof => return Ok(None),
                _ => None,
            };
            let Some(element) = closed else { continue };
            match self.open.last_mut() {
                Some(around) => around.children.push(element),
                None => return Ok(Some(element)),
            }
        }
    }
}

/// A message for an account: its number, and its id in the account's archive, if it says one.
fn letter(message: &Element, account: &str) -> Option<(usize, Option<String>)> {
    if let Some(result) = message.child("result") {
        let kept = result.child("forwarded")?.child("message")?;
        let (number, _) = letter(kept, account)?;
        return Some((number, result.attribute("id").map(str::to_owned)));
    }
    // What comes back is no message, and what the account wrote itself is in its archive, too.
    let is_own = message.attribute("from").is_some_and(|from| from.starts_with(account));
    if message.attribute("type") == Some("error") || is_own {
        return None;
    }
    // Others may write such ids as well: the one of the own account counts.
    let is_ours = |child: &&Element| child.name == "stanza-id" && child.attribute("by") == Some(account);
    let place = message.children.iter().find(is_ours).and_then(|place| place.attribute("id"));
    Some((number_of(&message.child("body")?.text)?, place.map(str::to_owned)))
}

/// A connection.
struct Link {
    up: OwnedWriteHalf,
    down: mpsc::Receiver<(Instant, Element)>,
    reading: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Link {
    /// Connects to a server on this machine, and begins a stream with one of its hosts. Gives what the server offers.
    async fn open(port: u16, host: &str) -> anyhow::Result<(Self, Element)> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let (from, up) = socket.into_split();
        let (elements, down) = mpsc::channel(ELEMENTS);
        // Beside everything else, so that the time of an element is that of its coming.
        let reading = tokio::spawn(async move {
            let mut stream = Stream::new(BufReader::new(from));
            while let Ok(Some(element)) = stream.next().await {
                if elements.send((Instant::now(), element)).await.is_err() {
                    return;
                }
            }
        });
        let mut link = Self { up, down, reading };
        let features = link.begin(host).await?;
        Ok((link, features))
    }

    async fn begin(&mut self, host: &str) -> anyhow::Result<Element> {
        let opening = format!(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='{host}'>"
        );
        self.say(&opening).await?;
        self.answer("stream:features").await
    }

    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.up.write_all(text.as_bytes()).await?)
    }

    /// The next element, which must be this one.
    async fn answer(&mut self, name: &str) -> anyhow::Result<Element> {
        let next = tokio::time::timeout(PATIENCE, self.down.recv()).await.context("no answer")?;
        let (_, element) = next.context("the connection is lost")?;
        ensure!(element.name == name && element.attribute("type") != Some("error"), "no {name}, but {element:?}");
        Ok(element)
    }
}

/// Whether a host answers.
pub(crate) async fn answers(port: u16, host: &str) -> bool {
    Link::open(port, host).await.is_ok()
}

/// A user's device.
pub(crate) struct Phone {
    port: u16,
    host: String,
    user: String,
    peer: String,
    link: Option<Link>,
    /// Whether it asks the archive.
    archive: bool,
    /// What its disk would hold: where in the archive it is, what it has seen, and what the server has taken.
    last: Option<String>,
    seen: HashSet<String>,
    acknowledged: BTreeSet<usize>,
    /// What was said since the connection began and is not known to be taken. Only messages have numbers.
    under_way: VecDeque<Option<usize>>,
    /// How much of this connection's was said to be taken, by either side.
    confirmed: u32,
    taken: u32,
    /// Whether there is something before what comes now that is not here.
    is_behind: bool,
    questions: usize,
    heard: VecDeque<(Instant, usize)>,
}

impl Phone {
    /// A device of a user who is new to the host, with somebody to write to.
    pub(crate) async fn register(port: u16, host: &str, user: &str, peer: &str, archive: bool) -> anyhow::Result<Self> {
        let (mut link, _) = Link::open(port, host).await?;
        let question = format!(
            "<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>{user}</username>\
             <password>{PASSWORD}</password></query></iq>"
        );
        link.say(&question).await?;
        link.answer("iq").await.with_context(|| format!("registering {user}"))?;
        Ok(Self::new(port, host, user, peer, archive))
    }

    fn new(port: u16, host: &str, user: &str, peer: &str, archive: bool) -> Self {
        Self {
            port,
            host: host.to_owned(),
            user: user.to_owned(),
            peer: format!("{peer}@{host}"),
            link: None,
            archive,
            last: None,
            seen: HashSet::new(),
            acknowledged: BTreeSet::new(),
            under_way: VecDeque::new(),
            confirmed: 0,
            taken: 0,
            is_behind: archive,
            questions: 0,
            heard: VecDeque::new(),
        }
    }

    fn account(&self) -> String {
        format!("{}@{}", self.user, self.host)
    }

    /// What has come, as far as it has.
    async fn drain(&mut self) {
        let mut came = Vec::new();
        while let Some(next) = self.link.as_mut().and_then(|link| link.down.try_recv().ok()) {
            came.push(next);
        }
        for (at, element) in came {
            self.take(at, &element).await;
        }
    }

    /// Says something, and is without a connection if that fails.
    async fn post(&mut self, text: &str) {
        if let Some(link) = &mut self.link
            && link.say(text).await.is_err()
        {
            self.link = None;
        }
    }

    async fn write(&mut self, n: usize) {
        self.under_way.push_back(Some(n));
        let (peer, words) = (&self.peer, body(n as u64));
        let message = format!(
            "<message to='{peer}' type='chat' id='m{n}'><body>{}</body><origin-id xmlns='urn:xmpp:sid:0' id='m{n}'/>\
             </message><r xmlns='urn:xmpp:sm:3'/>",
            escape(words.as_str())
        );
        self.post(&message).await;
    }

    /// Does what an element asks for.
    async fn take(&mut self, at: Instant, element: &Element) {
        match element.name.as_str() {
            "r" => {
                let answer = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.taken);
                self.post(&answer).await;
            }
            "a" => {
                let said = element.attribute("h").and_then(|said| said.parse().ok()).unwrap_or(self.confirmed);
                while self.confirmed < said {
                    self.confirmed += 1;
                    self.acknowledged.extend(self.under_way.pop_front().flatten());
                }
            }
            "message" => {
                self.taken += 1;
                if let Some((number, place)) = letter(element, &self.account()) {
                    self.show(at, number, place);
                }
            }
            "iq" | "presence" => self.taken += 1,
            // The end of a stream that a newer one has replaced, for instance.
            _ => {}
        }
    }

    fn show(&mut self, at: Instant, number: usize, place: Option<String>) {
        if let Some(place) = place {
            if !self.seen.insert(place.clone()) {
                return;
            }
            if !self.is_behind {
                self.last = Some(place);
            }
        }
        self.heard.push_back((at, number));
    }

    /// Asks the archive for what comes after the last that is here.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        loop {
            self.questions += 1;
            let id = format!("q{}", self.questions);
            let after = self.last.as_ref().map_or_else(String::new, |last| format!("<after>{}</after>", escape(last)));
            let question = format!(
                "<iq type='set' id='{id}'><query xmlns='urn:xmpp:mam:2' queryid='{id}'>\
                 <set xmlns='http://jabber.org/protocol/rsm'><max>{PAGE}</max>{after}</set></query></iq>"
            );
            self.under_way.push_back(None);
            self.post(&question).await;
            let end = loop {
                let link = self.link.as_mut().context("the connection is lost")?;
                let next = tokio::time::timeout(PATIENCE, link.down.recv()).await.context("the archive is silent")?;
                let (at, element) = next.context("the connection is lost")?;
                self.take(at, &element).await;
                if element.name == "iq" && element.attribute("id") == Some(&id) {
                    break element;
                }
            };
            let Some(end) = end.child("fin") else { bail!("no page of the archive, but {end:?}") };
            if let Some(last) = end.child("set").and_then(|set| set.child("last")) {
                self.last = Some(last.text.clone());
            }
            if end.attribute("complete") == Some("true") {
                self.is_behind = false;
                return Ok(());
            }
        }
    }
}

impl End for Phone {
    async fn say(&mut self, n: usize) -> anyhow::Result<()> {
        self.drain().await;
        self.write(n).await;
        Ok(())
    }

    async fn hear(&mut self, patience: Duration) -> anyhow::Result<Option<(Instant, usize)>> {
        let deadline = Instant::now() + patience;
        while self.heard.is_empty() {
            let Some(link) = &mut self.link else { break };
            let Ok(next) = tokio::time::timeout_at(deadline.into(), link.down.recv()).await else { break };
            match next {
                Some((at, element)) => self.take(at, &element).await,
                None => self.link = None,
            }
        }
        Ok(self.heard.pop_front())
    }
}

impl Device for Phone {
    async fn connect(&mut self) -> anyhow::Result<()> {
        self.drain().await;
        let again: Vec<usize> = self.under_way.drain(..).flatten().collect();
        let (mut link, _) = Link::open(self.port, &self.host).await?;
        let secret = STANDARD.encode(format!("\0{}\0{PASSWORD}", self.user));
        link.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>")).await?;
        link.answer("success").await?;
        link.begin(&self.host).await?;
        let bind = format!(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{RESOURCE}</resource></bind></iq>"
        );
        link.say(&bind).await?;
        link.answer("iq").await?;
        link.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await?;
        link.answer("enabled").await?;
        (self.link, self.confirmed, self.taken) = (Some(link), 0, 0);
        self.under_way.push_back(None);
        self.post("<presence/>").await;
        for n in again {
            self.write(n).await;
        }
        if self.archive {
            self.is_behind = true;
            self.catch_up().await?;
        }
        Ok(())
    }

    fn cut(&mut self) {
        // What was taken is on its disk. What came and was not is lost with the connection: the server is not told of it.
        self.link = None;
    }

    async fn acknowledged(&mut self) -> anyhow::Result<BTreeSet<usize>> {
        self.drain().await;
        Ok(self.acknowledged.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says, in pieces as small as they can be.
    async fn read(text: &str) -> anyhow::Result<Vec<Element>> {
        let mut stream = Stream::new(BufReader::with_capacity(1, text.as_bytes()));
        let mut elements = Vec::new();
        while let Some(element) = stream.next().await? {
            elements.push(element);
        }
        Ok(elements)
    }

    #[tokio::test]
    async fn a_stream_is_read_element_by_element() -> anyhow::Result<()> {
        let text = "<?xml version='1.0'?><stream:stream id='1' xmlns='jabber:client'><stream:features><bind/>\
                    </stream:features><success/><?xml version='1.0'?><stream:stream id='2'> <a h='2' xmlns='urn:xmpp:sm:3'/>\
                    <message from='a&amp;b'><body>1 &lt;&#33;</body></message></stream:stream><late/>";
        let elements = read(text).await?;
        let names: Vec<&str> = elements.iter().map(|element| element.name.as_str()).collect();
        assert_eq!(names, ["stream:features", "success", "a", "message"]);
        assert_eq!(elements[0].children[0].name, "bind");
        assert_eq!(elements[2].attribute("h"), Some("2"));
        assert_eq!(elements[3].attribute("from"), Some("a&b"));
        assert_eq!(elements[3].child("body").map(|body| body.text.as_str()), Some("1 <!"));
        Ok(())
    }

    #[tokio::test]
    async fn what_the_server_has_taken_is_acknowledged_and_what_is_known_is_not_shown_again() -> anyhow::Result<()> {
        let mut phone = Phone::new(0, "h", "bob", "alice", true);
        phone.under_way = VecDeque::from([None, Some(1), None, Some(2), Some(3)]);
        let message = "<message from='alice@h/phone'><stanza-id by='bob@h' id='17'/><body>5 hello</body></message>";
        let text = ["<a h='2'/>", message, message, "<a h='4'/>", "<a h='4'/>", "<iq/>"].concat();
        for element in read(&text).await? {
            phone.take(Instant::now(), &element).await;
        }
        assert_eq!(phone.acknowledged, BTreeSet::from([1, 2]));
        assert_eq!(phone.under_way, [Some(3)], "what the next connection says again");
        assert_eq!(phone.heard.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [5]);
        assert_eq!((phone.taken, &phone.last), (3, &None), "it is behind until the archive says otherwise");
        Ok(())
    }

    #[tokio::test]
    async fn a_letter_is_known_by_its_place_in_the_own_archive() -> anyhow::Result<()> {
        let live = "<message from='alice@h/phone' type='chat'><stanza-id by='evil@h' id='0'/>\
                    <stanza-id by='bob@h' id='17'/><body>5 hello</body></message>";
        let kept = "<message from='bob@h'><result id='17'><forwarded><delay/><message from='alice@h/phone'>\
                    <body>5 hello</body></message></forwarded></result></message>";
        let own = "<message from='bob@h'><result id='18'><forwarded><message from='bob@h/phone'><body>6 hi</body>\
                   </message></forwarded></result></message>";
        let returned = "<message from='alice@h' type='error'><body>7 hi</body></message>";
        let plain = "<message from='alice@h/phone'><body>8 hi</body></message>";
        let known = [live, kept, own, returned, plain].concat();
        let found: Vec<_> = read(&known).await?.iter().map(|message| letter(message, "bob@h")).collect();
        let place = |id: &str| Some(id.to_owned());
        assert_eq!(found, [Some((5, place("17"))), Some((5, place("17"))), None, None, Some((8, None))]);
        Ok(())
    }
}
