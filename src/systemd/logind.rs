//! logind over D-Bus: inhibitor locks, and the news that the host shuts down; beside it systemd's news that it stops the
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

/// The connection on which such news comes. It stands for as long as the guest runs, and without news nobody is woken: the
/// bus is asked for one signal, and sends others only to whom they are addressed.
#[derive(Debug)]
pub struct EndNotices {
    bus: Connection,
    messages: MessageStream,
    /// Holds up the shutdown, as long as logind lets it.
    _lock: OwnedFd,
}

impl EndNotices {
    /// From now on a shutdown waits for this value's end, and is told.
    pub async fn listen(why: &str) -> Result<Self> {
        let bus = connect().await?;
        // Before the signal is asked for, so none is missed.
        let messages = MessageStream::from(&bus);
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(NAME)?.path(PATH)?;
        let rule = rule.interface(MANAGER)?.member(SHUTDOWN)?.build().to_string();
        let ask = bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "AddMatch", &rule);
        timeout(ANSWER_LIMIT, ask).await.map_err(|_| SystemdError::NoAnswer)??;
        let lock = inhibit(&bus, "shutdown", why, "delay").await?;
        Ok(Self { bus, messages, _lock: lock })
    }

    /// The connection's name: systemd asks it to end a scope of which it is the `Controller`, in place of sending signals.
    /// Once nobody has the name, systemd sends signals again.
    pub fn name(&self) -> Option<&str> {
        self.bus.unique_name().map(|name| name.as_str())
    }

    /// Waits for news; for ever if the bus has gone.
    pub async fn next(&mut self) -> End {
        loop {
            let message = poll_fn(|context| Pin::new(&mut self.messages).poll_next(context)).await;
            match message {
                Some(Ok(message)) => {
                    if let Some(end) = meaning(&message)
                        && self.is_from_root(&message).await
                    {
                        return end;
                    }
                }
                Some(Err(error)) => tracing::debug!("a message of the system bus: {error}"),
                None => std::future::pending().await,
            }
        }
    }

    /// Whether root sent it: everybody may send everybody signals.
    async fn is_from_root(&self, message: &Message) -> bool {
        let Some(sender) = message.header().sender().map(ToString::to_string) else { return false };
        let ask = self.bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "GetConnectionUnixUser", &sender);
        let reply = timeout(ANSWER_LIMIT, ask).await;
        reply.is_ok_and(|reply| reply.is_ok_and(|reply| reply.body().deserialize::<u32>().is_ok_and(|uid| uid == 0)))
    }
}

/// What a message says, whoever sent it.
fn meaning(message: &Message) -> Option<End> {
    let header = message.header();
    let is = |interface: &str, member: &str| {
        header.interface().is_some_and(|name| *name == interface) && header.member().is_some_and(|name| *name == member)
    };
    if message.message_type() != Type::Signal {
        return None;
    }
    if is(MANAGER, SHUTDOWN) {
        // `false` comes when a shutdown has been called off.
        return message.body().deserialize::<bool>().ok()?.then_some(End::Host);
    }
    is("org.freedesktop.systemd1.Scope", "RequestStop").then_some(End::Scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_that_begins_and_a_scope_that_is_stopped_are_news_and_nothing_else_is() {
        let signal = |path: &'static str, interface: &'static str, member: &'static str| {
            Message::signal(path, interface, member).unwrap()
        };
        let shutdown = |begins: bool| signal(PATH, MANAGER, SHUTDOWN).build(&begins).unwrap();
        assert_eq!(meaning(&shutdown(true)), Some(End::Host));
        assert_eq!(meaning(&shutdown(false)), None);
        assert_eq!(meaning(&signal(PATH, MANAGER, SHUTDOWN).build(&"true").unwrap()), None);
        assert_eq!(meaning(&signal(PATH, MANAGER, "PrepareForSleep").build(&true).unwrap()), None);
        let scope = "org.freedesktop.systemd1.Scope";
        assert_eq!(meaning(&signal("/a", scope, "RequestStop").build(&()).unwrap()), Some(End::Scope));
        let call = Message::method_call("/a", "RequestStop").unwrap().interface(scope).unwrap().build(&()).unwrap();
        assert_eq!(meaning(&call), None);
    }
}
