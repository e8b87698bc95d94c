//! logind over D-Bus: inhibitor locks, and the news that the host shuts down or sleeps; beside it systemd's news that it stops the
//! guest's scope. Sources: org.freedesktop.login1(5), org.freedesktop.systemd1(5).

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::Pin;

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
const BUS: &str = "org.freedesktop.DBus";

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
    /// News whose sender is not known yet, and the question who it is.
    asked: Option<(News, Asked)>,
    /// Holds up the shutdown, as long as logind lets it.
    shutdown: Option<OwnedFd>,
    /// Holds up the host's sleep in the same way.
    sleep: Option<OwnedFd>,
}

/// Whether root sent something.
type Asked = Pin<Box<dyn Future<Output = bool>>>;

impl Notices {
    /// Connects; nothing is asked for yet.
    pub async fn connect() -> Result<Self> {
        Ok(Self::on(connect().await?))
    }

    fn on(bus: Connection) -> Self {
        // Before a signal is asked for, so none is missed.
        let messages = MessageStream::from(&bus);
        Self { bus, messages, asked: None, shutdown: None, sleep: None }
    }

    /// From now on a shutdown waits for this value's end, and is told.
    pub async fn hold_shutdown(&mut self, why: &str) -> Result<()> {
        self.hear(SHUTDOWN).await?;
        self.shutdown = Some(inhibit(&self.bus, "shutdown", why, "delay").await?);
        Ok(())
    }

    /// From now on a host that is about to sleep waits for [`Self::let_sleep`], and is told.
    pub async fn hold_sleep(&mut self, why: &str) -> Result<()> {
        self.hear(SLEEP).await?;
        self.hold_sleep_again(why).await
    }

    /// Holds it up once more, after the host has woken.
    pub async fn hold_sleep_again(&mut self, why: &str) -> Result<()> {
        self.sleep = Some(inhibit(&self.bus, "sleep", why, "delay").await?);
        Ok(())
    }

    /// Lets the host sleep.
    pub fn let_sleep(&mut self) {
        self.sleep = None;
    }

    /// Has the bus pass this signal of logind's on.
    async fn hear(&self, signal: &str) -> Result<()> {
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(NAME)?.path(PATH)?;
        let rule = rule.interface(MANAGER)?.member(signal)?.build().to_string();
        let ask = self.bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "AddMatch", &rule);
        timeout(ANSWER_LIMIT, ask).await.map_err(|_| SystemdError::NoAnswer)??;
        Ok(())
    }

    /// The connection's name: systemd asks it to end a scope of which it is the `Controller`, in place of sending signals.
    /// Once nobody has the name, systemd sends signals again.
    pub fn name(&self) -> Option<&str> {
        self.bus.unique_name().map(|name| name.as_str())
    }

    /// Waits for news; for ever if the bus has gone. Can be dropped and called again, and nothing is lost.
    pub async fn next(&mut self) -> News {
        loop {
            if let Some((news, is_from_root)) = &mut self.asked {
                let (news, is_from_root) = (*news, is_from_root.as_mut().await);
                self.asked = None;
                if is_from_root {
                    return news;
                }
            }
            let message = poll_fn(|context| Pin::new(&mut self.messages).poll_next(context)).await;
            match message {
                Some(Ok(message)) => {
                    if let Some(news) = meaning(&message) {
                        self.asked = Some((news, Box::pin(is_from_root(self.bus.clone(), message))));
                    }
                }
                Some(Err(error)) => tracing::debug!("a message of the system bus: {error}"),
                None => std::future::pending().await,
            }
        }
    }
}

/// Whether root sent it: everybody may send everybody signals.
async fn is_from_root(bus: Connection, message: Message) -> bool {
    let Some(sender) = message.header().sender().map(ToString::to_string) else { return false };
    let ask = bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "GetConnectionUnixUser", &sender);
    let reply = timeout(ANSWER_LIMIT, ask).await;
    reply.is_ok_and(|reply| reply.is_ok_and(|reply| reply.body().deserialize::<u32>().is_ok_and(|uid| uid == 0)))
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

    use super::{MANAGER, Notices, PATH};

    /// The names on the bus of logind and of somebody else.
    const LOGIND: &str = ":1.1";
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

        #[zbus(name = "GetConnectionUnixUser")]
        fn user(&self, name: &str) -> u32 {
            if name == LOGIND { 0 } else { 1000 }
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
        (Fake { server: server.unwrap(), held }, Notices::on(client.unwrap()))
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
}
