//! Ports of the host that are to lead to the guest, and that another program has.

use super::card::Card;
use crate::host::Listening;
use crate::plan::Severity::Hard;
use crate::plan::draft::Draft;

/// Names the first port on which a program listens already, of those sockets that are in the way. Nothing of a machine that
/// runs, whose own helper it is that listens: `check` looks at it, and a launcher takes it over.
pub(super) fn taken(draft: &mut Draft, card: &Card, is_in_the_way: impl Fn(&Listening) -> bool) {
    let Some(facts) = draft.host.user_network.as_ref().filter(|facts| !facts.of_itself) else { return };
    let taken = card.network.forward.iter().enumerate().find_map(|(at, forward)| {
        let mut sockets = facts.listening.iter().filter(|socket| is_in_the_way(socket));
        let port = sockets
            .find_map(|socket| forward.meets(socket.protocol, Some(socket.address), socket.port, socket.port))?;
        Some((at, forward.protocol.name(), port))
    });
    if let Some((at, protocol, port)) = taken {
        let detail = format!("a program listens on {protocol} port {port} of the host already");
        let remedy = format!("name another port, or end the program (`ss -lnp sport = :{port}` names it)");
        draft.no(&card.key("forward.taken"), Hard, detail, &remedy);
        draft.about(&card.field(&format!("forward[{at}]")));
    }
}
