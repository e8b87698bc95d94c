//! logind over D-Bus: inhibitor locks, and the news that the host shuts down or sleeps; beside it systemd's news that it stops the
//! guest's scope. Sources: org.freedesktop.login1(5), org.freedesktop.systemd1(5).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};

use futures_core::Stream as _;
use tokio::time::timeout;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::{ANSWER_LIMIT, Result, SystemdError};

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SHUTDOWN: &str = "PrepareForShutdown";
const SLEEP: &str = "PrepareForSleep";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const BUS: &str = "org.freedesktop.DBus";
const OWNER_CHANGED: &str = "NameOwnerChanged";

/// Keeps the host from suspending, until the descriptor and all its copies are closed.
pub async fn keep_awake(why: &str) -> Result<OwnedFd> {
    inhibit(&connect().await?, "sleep", why, "block").await
}

async fn connect() -> Result<Connection> {
    let bus = timeout(ANSWER_LIMIT, Connection::system()).await;
    let bus = bus.map_err(|_| SystemdError::NoBus("it does not answer".to_owned()))?;
    bus.map_err(|error| SystemdError::NoBus(error.to_string()))
}

async fn inhibit(bus: &Connection, what: &str, why: &str, mode: &str) -> Result<OwnedFd> {
    let arguments = (what, "vfio-run", why, mode);
    let call = bus.call_method(Some(NAME), PATH, Some(MANAGER), "Inhibit", &arguments);
    let reply = timeout(ANSWER_LIMIT, call).await.map_err(|_| SystemdError::NoAnswer)??;
    Ok(OwnedFd::from(reply.body().deserialize::<zbus::zvariant::OwnedFd>()?))
}

/// What a guest has to end for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The host shuts down.
    Host,
    /// Somebody stops the scope that QEMU is in.
    Scope,
}

/// What the bus tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The guest has to end.
    Ends(End),
    /// The host suspends or hibernates, as soon as nobody holds that up.
    Sleeps,
    /// It has woken, or did not sleep after all.
    Woke,
}

/// The connection on which such news comes. It stands for as long as the guest runs, and without news nobody is woken: the
/// bus is asked for single signals, and sends others only to whom they are addressed.
pub struct Notices {
    bus: Connection,
    messages: MessageStream,
    /// Whom these names belong to, whose news is believed: everybody may send everybody signals, but the bus gives the names to
    /// root alone (its policies, such as `org.freedesktop.login1.conf`).
    owners: [(&'static str, Option<String>); 2],
    /// News that came while something else was waited for.
    heard: VecDeque<News>,
    /// Holds up the shutdown, as long as logind lets it.
    shutdown: Option<OwnedFd>,
    /// Holds up the host's sleep in the same way.
    sleep: Option<OwnedFd>,
}

impl Notices {
    /// Connects, and asks who logind and systemd are. No news is asked for yet.
    pub async fn connect() -> Result<Self> {
        Self::on(connect().await?).await
    }

    async fn on(bus: Connection) -> Result<Self> {
        // Before a signal is asked for, so none is missed.
        let messages = MessageStream::from(&bus);
        let owners = [(NAME, None), (SYSTEMD, None)];
        let mut notices = Self { bus, messages, owners, heard: VecDeque::new(), shutdown: None, sleep: None };
        for at in 0..notices.owners.len() {
            let name = notices.owners[at].0;
            let rule = MatchRule::builder().msg_type(Type::Signal).sender(BUS)?.interface(BUS)?;
            let rule = rule.member(OWNER_CHANGED)?.arg(0, name)?.build().to_string();
            notices.ask_bus("AddMatch", &rule).await?;
            match notices.ask_bus("GetNameOwner", name).await {
                // Unless the bus has told of a later one.
                Ok(reply) => {
                    let owner: String = reply.body().deserialize()?;
                    notices.owners[at].1.get_or_insert(owner);
                }
                // It may have one later.
                Err(error) => tracing::debug!("nobody has the name {name} on the system bus: {error}"),
            }
        }
        Ok(notices)
    }

    /// From now on a shutdown waits for this value's end, and is told.
    pub async fn hold_shutdown(&mut self, why: &str) -> Result<()> {
        self.hear(SHUTDOWN).await?;
        let bus = self.bus.clone();
        self.shutdown = Some(self.beside(inhibit(&bus, "shutdown", why, "delay")).await?);
        Ok(())
    }

    /// From now on a host that is about to sleep waits for [`Self::let_sleep`], and is told.
    pub async fn hold_sleep(&mut self, why: &str) -> Result<()> {
        self.hear(SLEEP).await?;
        self.hold_sleep_again(why).await
    }

    /// Holds it up once more, after the host has woken.
    pub async fn hold_sleep_again(&mut self, why: &str) -> Result<()> {
        let bus = self.bus.clone();
        self.sleep = Some(self.beside(inhibit(&bus, "sleep", why, "delay")).await?);
        Ok(())
    }

    /// Lets the host sleep.
    pub fn let_sleep(&mut self) {
        self.sleep = None;
    }

    /// Has the bus pass this signal of logind's on.
    async fn hear(&mut self, signal: &str) -> Result<()> {
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(NAME)?.path(PATH)?;
        let rule = rule.interface(MANAGER)?.member(signal)?.build().to_string();
        self.ask_bus("AddMatch", &rule).await.map(drop)
    }

    async fn ask_bus(&mut self, member: &str, argument: &str) -> Result<Message> {
        let bus = self.bus.clone();
        let ask = bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), member, &argument);
        self.beside(async { Ok(timeout(ANSWER_LIMIT, ask).await.map_err(|_| SystemdError::NoAnswer)??) }).await
    }

    /// Waits for an answer, and takes what comes meanwhile: zbus keeps 64 messages that nobody takes, and reads no answer behind
    /// them.
    async fn beside<T>(&mut self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let mut answer = pin!(answer);
        loop {
            tokio::select! {
                biased;
                answer = answer.as_mut() => return answer,
                () = self.heed_next() => {}
            }
        }
    }

    /// The connection's name: systemd asks it to end a scope of which it is the `Controller`, in place of sending signals.
    /// Once nobody has the name, systemd sends signals again.
    pub fn name(&self) -> Option<&str> {
        self.bus.unique_name().map(|name| name.as_str())
    }

    /// Waits for news; for ever if the bus has gone. Can be dropped and called again, and nothing is lost.
    pub async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.heard.pop_front() {
                return news;
            }
            self.heed_next().await;
        }
    }

    /// Takes the next message; waits for ever if the bus has gone. Can be dropped, and nothing is lost.
    async fn heed_next(&mut self) {
        match poll_fn(|context| Pin::new(&mut self.messages).poll_next(context)).await {
            Some(Ok(message)) => self.heed(&message),
            Some(Err(error)) => tracing::debug!("a message of the system bus: {error}"),
            None => std::future::pending().await,
        }
    }

    fn heed(&mut self, message: &Message) {
        let header = message.header();
        // The bus itself writes it.
        let Some(sender) = header.sender() else { return };
        if *sender == BUS && header.member().is_some_and(|name| *name == OWNER_CHANGED) {
            let Ok((name, _, new)) = message.body().deserialize::<(String, String, String)>() else { return };
            if let Some((_, owner)) = self.owners.iter_mut().find(|(of, _)| *of == name) {
                *owner = Some(new).filter(|new| !new.is_empty());
            }
        } else if self.owners.iter().any(|(_, owner)| owner.as_deref() == Some(sender.as_str())) {
            // What was said twice is one piece of news.
            let news = meaning(message).filter(|news| self.heard.back() != Some(news));
            self.heard.extend(news);
        }
    }
}

/// What a message says, whoever sent it.
fn meaning(message: &Message) -> Option<News> {
    let header = message.header();
    let is = |interface: &str, member: &str| {
        header.interface().is_some_and(|name| *name == interface) && header.member().is_some_and(|name| *name == member)
    };
    if message.message_type() != Type::Signal {
        return None;
    }
    let begins = || message.body().deserialize::<bool>().ok();
    if is(MANAGER, SHUTDOWN) {
        // `false` comes when a shutdown has been called off.
        return begins()?.then_some(News::Ends(End::Host));
    }
    if is(MANAGER, SLEEP) {
        return Some(if begins()? { News::Sleeps } else { News::Woke });
    }
    is("org.freedesktop.systemd1.Scope", "RequestStop").then_some(News::Ends(End::Scope))
}

/// A bus with logind on it, for tests: the other end of a connection, which sends what it is told to.
#[cfg(test)]
pub(crate) mod fake {
    use std::os::fd::OwnedFd;
    use std::sync::{Arc, Mutex};

    use zbus::zvariant;

    use super::{BUS, MANAGER, NAME, Notices, OWNER_CHANGED, PATH};

    /// The names on the bus of logind, of its next process, and of somebody else.
    const LOGIND: &str = ":1.1";
    pub const RESTARTED: &str = ":1.9";
    pub const SOMEBODY: &str = ":1.7";

    /// The other end.
    #[derive(Clone)]
    pub struct Fake {
        server: zbus::Connection,
        held: Arc<Mutex<Vec<(String, OwnedFd)>>>,
    }

    struct Daemon;

    #[zbus::interface(name = "org.freedesktop.DBus")]
    impl Daemon {
        fn add_match(&self, _rule: &str) {}

        fn get_name_owner(&self, name: &str) -> zbus::fdo::Result<String> {
            match name {
                NAME => Ok(LOGIND.to_owned()),
                other => Err(zbus::fdo::Error::NameHasNoOwner(other.to_owned())),
            }
        }
    }

    struct Logind(Arc<Mutex<Vec<(String, OwnedFd)>>>);

    #[zbus::interface(name = "org.freedesktop.login1.Manager")]
    impl Logind {
        fn inhibit(&self, what: &str, _who: &str, _why: &str, mode: &str) -> zvariant::OwnedFd {
            let (ours, theirs) = nix::unistd::pipe().unwrap();
            self.0.lock().unwrap().push((format!("{what} {mode}"), ours));
            theirs.into()
        }
    }

    /// Both ends.
    pub async fn bus() -> (Fake, Notices) {
        let held = Arc::default();
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let server = zbus::connection::Builder::unix_stream(theirs)
            .server(zbus::Guid::generate())
            .unwrap()
            .p2p()
            .serve_at("/org/freedesktop/DBus", Daemon)
            .unwrap()
            .serve_at(PATH, Logind(Arc::clone(&held)))
            .unwrap()
            .build();
        let client = zbus::connection::Builder::unix_stream(ours).p2p().build();
        let (server, client) = tokio::join!(server, client);
        (Fake { server: server.unwrap(), held }, Notices::on(client.unwrap()).await.unwrap())
    }

    impl Fake {
        /// logind says that something begins, or is over.
        pub async fn says(&self, signal: &str, begins: bool) {
            self.says_as(LOGIND, signal, begins).await;
        }

        /// Somebody says it.
        pub async fn says_as(&self, sender: &str, signal: &str, begins: bool) {
            let message = zbus::Message::signal(PATH, MANAGER, signal).unwrap().sender(sender).unwrap();
            self.server.send(&message.build(&begins).unwrap()).await.unwrap();
        }

        /// logind was started anew, the bus says.
        pub async fn restarts(&self) {
            let message =
                zbus::Message::signal("/org/freedesktop/DBus", BUS, OWNER_CHANGED).unwrap().sender(BUS).unwrap();
            self.server.send(&message.build(&(NAME, LOGIND, RESTARTED)).unwrap()).await.unwrap();
        }

        /// What is held up now.
        pub fn held(&self) -> Vec<String> {
            let mut held = self.held.lock().unwrap();
            // The other end of a pipe is gone if its reader has nothing more to come.
            held.retain(|(_, lock)| {
                let mut end = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(lock), nix::poll::PollFlags::POLLIN)];
                nix::poll::poll(&mut end, nix::poll::PollTimeout::ZERO).unwrap() == 0
            });
            held.iter().map(|(what, _)| what.clone()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_a_sleep_and_a_scope_that_is_stopped_are_news_and_nothing_else_is() {
        let signal = |path: &'static str, interface: &'static str, member: &'static str| {
            Message::signal(path, interface, member).unwrap()
        };
        let shutdown = |begins: bool| signal(PATH, MANAGER, SHUTDOWN).build(&begins).unwrap();
        assert_eq!(meaning(&shutdown(true)), Some(News::Ends(End::Host)));
        assert_eq!(meaning(&shutdown(false)), None);
        for (begins, news) in [(true, News::Sleeps), (false, News::Woke)] {
            assert_eq!(meaning(&signal(PATH, MANAGER, "PrepareForSleep").build(&begins).unwrap()), Some(news));
        }
        assert_eq!(meaning(&signal(PATH, MANAGER, SHUTDOWN).build(&"true").unwrap()), None);
        assert_eq!(meaning(&signal(PATH, MANAGER, "PrepareForSleep").build(&1u32).unwrap()), None);
        assert_eq!(meaning(&signal(PATH, MANAGER, "SessionNew").build(&true).unwrap()), None);
        let scope = "org.freedesktop.systemd1.Scope";
        assert_eq!(meaning(&signal("/a", scope, "RequestStop").build(&()).unwrap()), Some(News::Ends(End::Scope)));
        let call = Message::method_call("/a", "RequestStop").unwrap().interface(scope).unwrap().build(&()).unwrap();
        assert_eq!(meaning(&call), None);
    }

    #[tokio::test]
    async fn a_sleep_waits_until_it_is_let_go_and_is_held_up_again_afterwards() {
        let (fake, mut notices) = fake::bus().await;
        assert_eq!(fake.held(), Vec::<String>::new());
        notices.hold_shutdown("it ends").await.unwrap();
        notices.hold_sleep("it is paused").await.unwrap();
        assert_eq!(fake.held(), ["shutdown delay", "sleep delay"]);
        // Everybody may send everybody signals.
        fake.says_as(fake::SOMEBODY, "PrepareForSleep", true).await;
        fake.says("PrepareForShutdown", false).await;
        fake.says("PrepareForSleep", true).await;
        assert_eq!(notices.next().await, News::Sleeps);
        notices.let_sleep();
        assert_eq!(fake.held(), ["shutdown delay"]);
        fake.says("PrepareForSleep", false).await;
        assert_eq!(notices.next().await, News::Woke);
        notices.hold_sleep_again("it is paused").await.unwrap();
        assert_eq!(fake.held(), ["shutdown delay", "sleep delay"]);
        drop(notices);
        assert_eq!(fake.held(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn news_that_comes_while_something_else_happens_is_not_lost() {
        let (fake, mut notices) = fake::bus().await;
        fake.says("PrepareForShutdown", true).await;
        let deadline = std::time::Instant::now() + ANSWER_LIMIT;
        // As an event loop does that has something else to do each time.
        let news = loop {
            if let Ok(news) = timeout(std::time::Duration::ZERO, notices.next()).await {
                break news;
            }
            assert!(std::time::Instant::now() < deadline, "it was lost");
            tokio::task::yield_now().await;
        };
        assert_eq!(news, News::Ends(End::Host));
    }

    #[tokio::test]
    async fn somebody_who_sends_without_end_holds_up_no_answer_and_no_news() {
        let (fake, mut notices) = fake::bus().await;
        notices.hold_sleep("it is paused").await.unwrap();
        notices.let_sleep();
        // More than zbus keeps.
        for _ in 0..100 {
            fake.says_as(fake::SOMEBODY, "PrepareForSleep", false).await;
        }
        fake.says("PrepareForSleep", true).await;
        notices.hold_sleep_again("it is paused").await.unwrap();
        assert_eq!(fake.held(), ["sleep delay"]);
        assert_eq!(notices.next().await, News::Sleeps);
    }

    #[tokio::test]
    async fn a_logind_that_was_started_anew_is_believed_in_place_of_the_one_before() {
        let (fake, mut notices) = fake::bus().await;
        notices.hold_sleep("it is paused").await.unwrap();
        fake.restarts().await;
        fake.says("PrepareForSleep", false).await;
        fake.says_as(fake::RESTARTED, "PrepareForSleep", true).await;
        assert_eq!(notices.next().await, News::Sleeps);
    }
}
