//! A daemon that only talks: it keeps attachments in a map, answers as the API says, and remembers what it was asked.
//!
//! It shows what the plugin says and what it makes of answers. It does not show that the daemon answers so, that an
//! interface comes into being, or that any address can be used.

use millrace_api::{
    AddressSource, Attachment, AttachmentId, AttachmentRequest, AttachmentStatus, ErrorBody, ErrorCode,
    GarbageList, GarbageRequest, Status, path,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How the daemon feels about the next requests.
#[derive(Clone, Debug, Default)]
pub(crate) enum Mood {
    #[default]
    Helpful,
    /// Refuses everything.
    Refuses(ErrorCode, &'static str),
    /// Refuses additions only.
    RefusesAdditions(ErrorCode, &'static str),
    /// Does what it is asked, and breaks off before it answers, so many times.
    BreaksOff(u32),
    /// Does what it is asked, and answers after this time.
    Slow(Duration),
}

#[derive(Default)]
struct State {
    attachments: BTreeMap<AttachmentId, (AttachmentRequest, Attachment)>,
    given: u32,
    asked: Vec<String>,
    mood: Mood,
    status: AttachmentStatus,
    damaged: bool,
}

pub(crate) struct Daemon {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Daemon {
    /// Listens on the socket until the test ends.
    pub(crate) fn start(socket: &Path) -> Daemon {
        let listener = UnixListener::bind(socket).unwrap();
        let status = AttachmentStatus {
            ready: true,
            ipv4_left: Some(250),
            ipv6_left: Some(1 << 20),
            ..AttachmentStatus::default()
        };
        let state = Arc::new(Mutex::new(State { status, ..State::default() }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                thread::spawn(move || serve(stream.unwrap(), &shared));
            }
        });
        Daemon { socket: socket.to_owned(), state }
    }

    /// Nobody can connect any more.
    pub(crate) fn stop(&self) {
        std::fs::remove_file(&self.socket).unwrap();
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    pub(crate) fn status(&self, status: AttachmentStatus) {
        self.state.lock().unwrap().status = status;
    }

    /// From now on it finds something missing of every attachment.
    pub(crate) fn damage(&self) {
        self.state.lock().unwrap().damaged = true;
    }

    /// Method and path of every request so far, and forgets them.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    pub(crate) fn attachments(&self) -> Vec<Attachment> {
        self.state.lock().unwrap().attachments.values().map(|(_, attachment)| attachment.clone()).collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.attachments().iter().map(|attachment| attachment.id.to_string()).collect()
    }

    /// The request that made the only attachment.
    pub(crate) fn request(&self) -> AttachmentRequest {
        let state = self.state.lock().unwrap();
        assert_eq!(state.attachments.len(), 1);
        state.attachments.values().next().unwrap().0.clone()
    }
}

fn serve(mut stream: UnixStream, state: &Mutex<State>) {
    let Some((method, asked, body)) = receive(&mut stream) else { return };
    let (mood, answer) = {
        let mut state = state.lock().unwrap();
        state.asked.push(format!("{method} {asked}"));
        let mood = state.mood.clone();
        if let Mood::BreaksOff(times) = mood {
            state.mood = if times > 1 { Mood::BreaksOff(times - 1) } else { Mood::Helpful };
        }
        let answer = match &mood {
            Mood::Refuses(code, message) => refusal(*code, message),
            Mood::RefusesAdditions(code, message) if asked == path::ATTACHMENTS => refusal(*code, message),
            _ => state.answer(&method, &asked, &body),
        };
        (mood, answer)
    };
    match mood {
        Mood::BreaksOff(_) => return,
        Mood::Slow(time) => thread::sleep(time),
        _ => {}
    }
    let (code, body) = answer;
    let length = body.len();
    // The plugin may have been killed.
    let _ =
        write!(stream, "HTTP/1.1 {code} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
}

fn receive(stream: &mut UnixStream) -> Option<(String, String, String)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                let mut words = head.split(' ');
                return Some((words.next()?.to_owned(), words.next()?.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut chunk).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn refusal(code: ErrorCode, message: &str) -> (u16, String) {
    (code.status(), serde_json::to_string(&ErrorBody::new(code, message)).unwrap())
}

impl State {
    fn answer(&mut self, method: &str, asked: &str, body: &str) -> (u16, String) {
        match (method, asked) {
            ("POST", path::ATTACHMENTS) => self.attach(&serde_json::from_str(body).unwrap()),
            ("POST", path::ATTACHMENTS_GC) => {
                let request: GarbageRequest = serde_json::from_str(body).unwrap();
                let is_garbage = |attachment: &Attachment| {
                    attachment.network == request.network && !request.valid.contains(&attachment.id)
                };
                let all = self.attachments.values().map(|(_, attachment)| attachment);
                let removed: Vec<_> = all.filter(|a| is_garbage(a)).map(|a| a.id.clone()).collect();
                self.attachments.retain(|id, _| !removed.contains(id));
                (200, json(&GarbageList { removed }))
            }
            ("GET", path::STATUS) => {
                (200, json(&Status { attachments: self.status.clone(), ..Status::default() }))
            }
            (method, asked) => {
                let id = self.attachments.keys().find(|id| path::attachment(id) == asked).cloned();
                match (method, id) {
                    ("DELETE", id) => {
                        id.map(|id| self.attachments.remove(&id));
                        (204, String::new())
                    }
                    ("GET", Some(_)) if self.damaged => refusal(ErrorCode::Conflict, "eth0 has gone"),
                    ("GET", Some(id)) => (200, json(&self.attachments[&id].1)),
                    _ => refusal(ErrorCode::NotFound, "there is no such attachment"),
                }
            }
        }
    }

    fn attach(&mut self, request: &AttachmentRequest) -> (u16, String) {
        if let Some((before, attachment)) = self.attachments.get(&request.id) {
            return match before == request {
                true => (201, serde_json::to_string(attachment).unwrap()),
                false => refusal(ErrorCode::Conflict, "the container has another eth0 already"),
            };
        }
        self.given += 1;
        let addresses = match &request.addresses {
            AddressSource::Given { addresses } => addresses.clone(),
            AddressSource::Own { requested } if !requested.is_empty() => requested.clone(),
            AddressSource::Own { .. } => vec![
                IpAddr::from(Ipv4Addr::from_bits(0x0a09_0000 + self.given)),
                IpAddr::from(Ipv6Addr::from_bits((0xfd09 << 112) + u128::from(self.given))),
            ],
        };
        let attachment: Attachment = serde_json::from_value(serde_json::json!({
            "containerId": request.id.container_id, "ifName": request.id.if_name, "network": request.network,
            "netns": request.netns, "pod": request.pod, "port": format!("c-{:012x}", self.given), "kind": "tap",
            "mac": request.mac.map_or("02:4d:00:00:00:01".to_owned(), |mac| mac.to_string()),
            "mtu": request.mtu.map_or(1500, |mtu| mtu.get()), "addresses": addresses,
            "gateways": ["169.254.1.1", "fe80::1"],
            "routes": [{"destination": "0.0.0.0/0", "gateway": "169.254.1.1"}],
        }))
        .unwrap();
        let answer = serde_json::to_string(&attachment).unwrap();
        self.attachments.insert(request.id.clone(), (request.clone(), attachment));
        (201, answer)
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

/// The value of a status that nothing is left of.
pub(crate) fn full() -> AttachmentStatus {
    AttachmentStatus { ready: true, attachments: 250, ipv4_left: Some(0), ..AttachmentStatus::default() }
}

/// A body as it was sent.
pub(crate) fn parsed(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}
