//! What is different about broadcasts and recordings since the last look.

use std::collections::HashMap;

use bridge::recording::{Recording, RecordingState};
use serde_json::{Value, json};

use super::EventKind;

/// What was last told of each broadcast.
#[derive(Default)]
pub(crate) struct Watch {
    told: HashMap<String, Told>,
}

struct Told {
    state: Value,
    is_over: bool,
}

impl Watch {
    /// Looks at all broadcasts as the room API shows them; what is to be told, with the room's name.
    pub(crate) fn look(&mut self, shown: Vec<Value>) -> Vec<(EventKind, String, Value)> {
        let mut events = Vec::new();
        let mut told = HashMap::new();
        for broadcast in shown {
            let id = text(&broadcast, "id").to_owned();
            let before = self.told.remove(&id);
            let state = state_of(&broadcast, before.as_ref().map(|told| &told.state));
            let is_over = broadcast["state"] == "ended";
            let kinds = match &before {
                None if is_over => vec![EventKind::BroadcastStarted, EventKind::BroadcastEnded],
                None => vec![EventKind::BroadcastStarted],
                Some(before) if before.is_over => Vec::new(),
                Some(_) if is_over => vec![EventKind::BroadcastEnded],
                Some(before) if before.state != state => vec![EventKind::BroadcastUpdated],
                Some(_) => Vec::new(),
            };
            let room = text(&broadcast, "room").to_owned();
            let data = json!({ "room": { "name": room }, "broadcast": broadcast });
            events.extend(
                kinds
                    .into_iter()
                    .map(|kind| (kind, room.clone(), data.clone())),
            );
            told.insert(id, Told { state, is_over });
        }
        self.told = told;
        events
    }
}

/// What is worth telling when it changes: no counters, and not each try to reach a target.
fn state_of(broadcast: &Value, before: Option<&Value>) -> Value {
    let targets: Vec<_> = broadcast["targets"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let states = targets.iter().map(|target| {
        let number = target["id"].to_string();
        let was_waiting = before.is_some_and(|before| before["targets"][&number] == "waiting");
        let state = match target["state"].as_str() {
            Some("connecting") if was_waiting => json!("waiting"),
            _ => target["state"].clone(),
        };
        (number, state)
    });
    json!({
        "state": broadcast["state"],
        "onAir": broadcast["onAir"],
        "follow": broadcast["follow"],
        "participant": broadcast["participant"],
        "targets": states.collect::<serde_json::Map<_, _>>(),
    })
}

/// What a change of a recording is to an application; `None`: nothing.
pub(crate) fn recording_event(recording: &Recording) -> Option<EventKind> {
    match recording.state {
        RecordingState::Starting => Some(EventKind::RecordingStarted),
        // That it went to the store as well is told in the same words once more.
        RecordingState::Ready if !recording.is_stored => Some(EventKind::RecordingReady),
        RecordingState::Failed if !recording.is_stored => Some(EventKind::RecordingFailed),
        _ => None,
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(state: &str, video: &str, target: &str) -> Vec<Value> {
        vec![json!({
            "id": "b_1", "room": "r", "state": state, "follow": "auto", "onAir": { "video": video },
            "targets": [{ "id": 1, "state": target, "bytes": video.len() }],
        })]
    }

    fn kinds(watch: &mut Watch, shown: Vec<Value>) -> Vec<EventKind> {
        let events = watch.look(shown);
        assert!(events.iter().all(|(_, room, _)| room == "r"));
        events.into_iter().map(|(kind, ..)| kind).collect()
    }

    #[test]
    fn a_broadcast_is_told_when_it_changes_and_once() {
        let mut watch = Watch::default();
        for (state, video, target, expected) in [
            (
                "starting",
                "card",
                "connecting",
                vec![EventKind::BroadcastStarted],
            ),
            ("starting", "card", "connecting", vec![]),
            (
                "live",
                "card",
                "connecting",
                vec![EventKind::BroadcastUpdated],
            ),
            (
                "live",
                "picture",
                "connecting",
                vec![EventKind::BroadcastUpdated],
            ),
            (
                "live",
                "picture",
                "waiting",
                vec![EventKind::BroadcastUpdated],
            ),
            // It tries again and again.
            ("live", "picture", "connecting", vec![]),
            ("live", "picture", "waiting", vec![]),
            ("live", "picture", "live", vec![EventKind::BroadcastUpdated]),
            (
                "live",
                "picture",
                "connecting",
                vec![EventKind::BroadcastUpdated],
            ),
            (
                "ended",
                "picture",
                "stopped",
                vec![EventKind::BroadcastEnded],
            ),
            ("ended", "picture", "stopped", vec![]),
        ] {
            let told = kinds(&mut watch, shown(state, video, target));
            assert_eq!(told, expected, "{state} {video} {target}");
        }
        assert_eq!(kinds(&mut watch, Vec::new()), []);
        assert!(watch.told.is_empty());
    }

    #[test]
    fn one_that_is_over_before_the_first_look_is_told_all_the_same() {
        let told = kinds(&mut Watch::default(), shown("ended", "card", "stopped"));
        assert_eq!(
            told,
            [EventKind::BroadcastStarted, EventKind::BroadcastEnded]
        );
    }
}
