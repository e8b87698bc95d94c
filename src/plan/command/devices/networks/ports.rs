//! Ports of the host that are to lead to the guest, and that another program has.

use super::card::Card;
use crate::host::Listener;
use crate::plan::Severity::Hard;
use crate::plan::draft::Draft;

/// Names the first port on which a program listens already, of those sockets that are in the way. Nothing of a machine that
/// runs, whose own helper it is that listens: `check` looks at it, and a launcher takes it over.
pub(super) fn taken(draft: &mut Draft, card: &Card, is_in_the_way: impl Fn(&Listener) -> bool) {
    let Some(facts) = draft.host.user_network.as_ref().filter(|facts| !facts.of_itself) else { return };
    let taken = card.network.forward.iter().enumerate().find_map(|(at, forward)| {
        let mut sockets = facts.listening.iter().filter(|socket| is_in_the_way(socket));
        sockets.find_map(|socket| {
            let (ip, port) = (Some(socket.address.ip()), socket.address.port());
            forward.meets(socket.protocol, ip, port, port)?;
            Some((at, socket))
        })
    });
    if let Some((at, socket)) = taken {
        let (who, protocol, port) = (socket.who(), socket.protocol.name(), socket.address.port());
        let detail = format!("{who} listens on {protocol} port {port} of the host already");
        let remedy = match socket.holder {
            Some(_) => "name another port, or end that program".to_owned(),
            None => format!("name another port, or end that program (as root, `ss -lnp sport = :{port}` names it)"),
        };
        draft.no(&card.key("forward.taken"), Hard, detail, &remedy);
        draft.about(&card.field(&format!("forward[{at}]")));
    }
}
