//! The command line.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand};
use poste_protocol::{ConversationId, DeviceId, Platform, ProviderToken, Seq, UserId};

/// Messages from the terminal. What you send is on your disk before anything else happens, and goes out as soon as
/// there is a network.
#[derive(Debug, Parser)]
#[command(
    name = "poste",
    version,
    after_help = "With --json each value is one line of the standard output, and an error is one line of the standard \
    error: {\"error\": {\"kind\": ..., \"message\": ...}}. docs/POSTE.md has the forms.\n\
    Logs: POSTE_LOG=debug.\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not acknowledged in time (the message is safe in the outbox)."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// Print JSON, one value a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whose account, and where it is kept.
#[derive(Debug, Clone, Group)]
pub(crate) struct Whose {
    /// Where accounts are kept [default: ~/.poste]
    #[arg(long, global = true, env = "POSTE_HOME")]
    pub(crate) home: Option<PathBuf>,
    /// Which user; needed when there are several accounts
    #[arg(long, global = true)]
    pub(crate) user: Option<UserId>,
    /// Which device; needed when the user has several
    #[arg(long, global = true)]
    pub(crate) device: Option<DeviceId>,
    /// The `stack.json` of a local stack: gives socket and issuer
    #[arg(long, global = true, conflicts_with_all = ["issuer", "socket"])]
    pub(crate) stack: Option<PathBuf>,
    /// Address of the issuer of tokens
    #[arg(long, global = true, requires = "socket")]
    pub(crate) issuer: Option<String>,
    /// Address of the socket, `ws://` or `wss://`
    #[arg(long, global = true, requires = "issuer")]
    pub(crate) socket: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set up an account on this device: --user, and --stack or --issuer and --socket
    Login,
    /// Send a message; wait for its acknowledgement
    Send {
        /// To whom
        #[arg(long)]
        to: UserId,
        /// Seconds to wait
        #[arg(long, default_value_t = 10)]
        wait: u64,
        /// A file to send, with the text or without; waits as long as it moves. Ended, it goes on with the next command
        #[arg(long)]
        file: Option<PathBuf>,
        /// What the file is, as a media type [default: guessed]
        #[arg(long, requires = "file")]
        kind: Option<String>,
        /// What to say; `-` reads it from the standard input
        #[arg(required_unless_present = "file")]
        text: Option<String>,
    },
    /// Save the file of a message; what came of it is kept, and goes on from there
    Download {
        /// Seconds to wait without a byte
        #[arg(long, default_value_t = 10)]
        wait: u64,
        /// Where to, a folder or a file [default: here, under the file's own name]
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// The message's id, as `show --json` has it
        id: uuid::Uuid,
    },
    /// Give one of your messages another text; wait for the acknowledgement
    Edit {
        /// Seconds to wait
        #[arg(long, default_value_t = 10)]
        wait: u64,
        /// The message's id, as `show --json` has it
        id: uuid::Uuid,
        /// What it says now; `-` reads it from the standard input
        text: String,
    },
    /// Delete one of your messages, or of a group that you are an admin of, for everyone; wait for the acknowledgement
    Delete {
        /// Seconds to wait
        #[arg(long, default_value_t = 10)]
        wait: u64,
        /// The message's id, as `show --json` has it
        id: uuid::Uuid,
    },
    /// Show the conversation with somebody
    Show {
        /// With whom
        #[arg(long)]
        with: UserId,
        /// How many messages, at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Those before this number of the log, instead of the newest
        #[arg(long, value_parser = seq)]
        before: Option<Seq>,
        /// Fetch older messages first, if this device has not as many
        #[arg(long)]
        older: bool,
        /// Seconds to wait for them
        #[arg(long, default_value_t = 10)]
        wait: u64,
    },
    /// Mark a conversation as read
    Read {
        #[command(flatten)]
        which: Which,
        /// Up to this number of the log [default: everything that is on this device]
        #[arg(long, value_parser = seq)]
        upto: Option<Seq>,
    },
    /// Let nobody wake you for a conversation; the server is told with the next connection
    Mute {
        #[command(flatten)]
        which: Which,
        /// For so many hours [default: for ever]
        #[arg(long, conflicts_with = "off")]
        hours: Option<u32>,
        /// Not any more
        #[arg(long)]
        off: bool,
    },
    /// Show whether this device is woken; or register the token by which it can be
    Push {
        /// What the platform's notification service gave
        #[arg(requires = "platform", value_parser = provider_token)]
        token: Option<ProviderToken>,
        /// Whose service: `apns`, `apns_sandbox` or `fcm`
        #[arg(long)]
        platform: Option<Platform>,
        /// Wake the application and not the person
        #[arg(long)]
        background: bool,
        /// Do not wake this device any more
        #[arg(long, conflicts_with = "token")]
        off: bool,
        /// Seconds to wait for the server
        #[arg(long, default_value_t = 10)]
        wait: u64,
    },
    /// Show who has one of your messages and who has read it; or give and get read receipts, or neither, on all devices
    Receipts {
        /// The message's id, as `show --json` has it; or `on`, or `off`
        #[arg(value_name = "ID|on|off", value_parser = receipts)]
        what: Receipts,
    },
    /// Show how the account stands: what is unread, what waits, what failed
    Status {
        /// Connect, and show the connection and what it took
        #[arg(long)]
        connect: bool,
        /// Seconds to wait for a connection
        #[arg(long, default_value_t = 10)]
        wait: u64,
    },
    /// List the conversations
    Conversations,
    /// Groups: begin one, and say who is in
    Group {
        #[command(subcommand)]
        what: GroupCommand,
    },
    /// Show what is not acknowledged yet
    Outbox,
    /// Send a failed message or change again
    Retry {
        /// The message's id, as `outbox` shows it
        id: uuid::Uuid,
    },
    /// Drop a failed or waiting message or change
    Drop {
        /// The message's id, as `outbox` shows it
        id: uuid::Uuid,
    },
    /// Print what arrives until Ctrl-C
    Watch {
        /// Also whether these are here and write to you; they see that you are here
        #[arg(long)]
        with: Vec<UserId>,
    },
    /// Cut the network for this account, until `online`
    Offline,
    /// Bring the network back, send what waits and fetch what was missed
    Online {
        /// Seconds to wait
        #[arg(long, default_value_t = 10)]
        wait: u64,
    },
    /// Chat on the whole screen; line by line where there is none
    Chat {
        /// With whom; without it, the list of conversations is shown
        #[arg(long)]
        with: Option<UserId>,
        /// Line by line also in a terminal
        #[arg(long)]
        plain: bool,
    },
}

/// What is done to a group. It is a message, and waits for its acknowledgement like one.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Begin a group; prints its id
    Create {
        /// Its title
        #[arg(long)]
        title: String,
        /// Who is in, beside you
        users: Vec<UserId>,
    },
    /// Add users
    Add {
        /// The group's id
        group: ConversationId,
        /// Whom
        #[arg(required = true)]
        users: Vec<UserId>,
    },
    /// Remove users
    Remove {
        /// The group's id
        group: ConversationId,
        /// Whom
        #[arg(required = true)]
        users: Vec<UserId>,
    },
    /// Leave it
    Leave {
        /// The group's id
        group: ConversationId,
    },
    /// Give it another title
    Title {
        /// The group's id
        group: ConversationId,
        /// The title
        title: String,
    },
    /// Give a member a role
    Role {
        /// The group's id
        group: ConversationId,
        // Not `user`: that is the option which says whose account it is.
        /// Whom
        #[arg(value_name = "USER")]
        member: UserId,
        /// Which
        role: RoleName,
    },
    /// Send a message to it; wait for its acknowledgement
    Send {
        /// The group's id
        group: ConversationId,
        /// A file to send, with the text or without
        #[arg(long)]
        file: Option<PathBuf>,
        /// What the file is, as a media type [default: guessed]
        #[arg(long, requires = "file")]
        kind: Option<String>,
        /// What to say
        #[arg(required_unless_present = "file")]
        text: Option<String>,
    },
    /// Show it
    Show {
        /// The group's id
        group: ConversationId,
        /// How many messages, at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Who is in
    Members {
        /// The group's id
        group: ConversationId,
    },
}

/// A role, as it is typed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum RoleName {
    /// Writes, and leaves
    Member,
    /// Also says who is in, and what the group is called
    Admin,
}

/// A conversation: with somebody, or a group.
#[derive(Debug, Clone, Group)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// With whom
    #[arg(long)]
    with: Option<UserId>,
    /// Which group
    #[arg(long = "in", value_name = "GROUP")]
    group: Option<ConversationId>,
}

impl Which {
    /// Its id, for this user.
    pub(crate) fn conversation(self, me: &UserId) -> ConversationId {
        let group = self.group.or_else(|| self.with.map(|user| ConversationId::direct(me, &user)));
        group.expect("one of the two is required")
    }
}

fn provider_token(text: &str) -> Result<ProviderToken, &'static str> {
    ProviderToken::new(text)
}

/// What `receipts` is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Receipts {
    /// Who has this message.
    Of(uuid::Uuid),
    /// To give and get read receipts, or neither.
    Set(bool),
}

fn receipts(text: &str) -> Result<Receipts, String> {
    match text {
        "on" => Ok(Receipts::Set(true)),
        "off" => Ok(Receipts::Set(false)),
        id => id.parse().map(Receipts::Of).map_err(|_| "neither a message's id, nor `on` or `off`".to_owned()),
    }
}

/// A number of the log.
fn seq(text: &str) -> Result<Seq, String> {
    let number: u64 = text.parse().map_err(|wrong| format!("{wrong}"))?;
    Seq::new(number).map_err(|invalid| invalid.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_conversation_is_with_somebody_or_a_group() {
        let (id, me) = (ConversationId::group(), UserId::new("ann").expect("valid"));
        let which = |args: &[&str]| match Args::try_parse_from([&["poste", "mute"], args].concat())?.command {
            Command::Mute { which, .. } => Ok(which.conversation(&me)),
            other => panic!("{other:?}"),
        };
        let direct = ConversationId::direct(&me, &UserId::new("ben").expect("valid"));
        assert_eq!(which(&["--with", "ben"]).ok(), Some(direct));
        assert_eq!(which(&["--in", id.as_str()]).ok(), Some(id.clone()));
        for wrong in [&[][..], &["--with", "ben", "--in", id.as_str()], &["--in", "a b"]] {
            let refused: Result<ConversationId, clap::Error> = which(wrong);
            assert!(refused.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn no_argument_of_a_command_is_taken_for_an_option_of_all() {
        let id = ConversationId::group();
        let args = Args::parse_from(["poste", "--user", "ann", "group", "role", id.as_str(), "ben", "admin"]);
        assert_eq!(args.whose.user.as_ref().map(UserId::as_str), Some("ann"));
        let Command::Group { what: GroupCommand::Role { member, .. } } = args.command else {
            panic!("another command")
        };
        assert_eq!(member.as_str(), "ben");
        Args::command().debug_assert();
    }
}
