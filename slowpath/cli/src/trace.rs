//! A packet's way, as text for people.

use crate::table::{Table, clean};
use millrace_api::Trace;

/// The packet, a numbered line a stage, the verdict.
pub(crate) fn story(trace: &Trace) -> String {
    let packet = &trace.packet;
    let pod = packet.pod.as_ref().map(|pod| format!(" (pod {pod})")).unwrap_or_default();
    let mut text = format!(
        "packet: {}, {} bytes, TTL {}, by port {}{pod}\n",
        packet.tuple, packet.size, packet.ttl, packet.port
    );
    let mut table = Table::new(["#", "STAGE", "ASKED", "ANSWER"]);
    for (number, step) in (1..).zip(&trace.steps) {
        table.row([i32::to_string(&number), step.stage.clone(), step.asked.clone(), step.answer.clone()]);
    }
    text.push_str(&table.render());
    text.push_str(&format!("verdict: {}\n", trace.verdict.text));
    clean(&text)
}
