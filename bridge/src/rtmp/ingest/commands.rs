//! The commands of an encoder: `connect`, `createStream`, `publish`, and what it says for old servers.

use crate::rtmp::amf::{Value, object};
use crate::rtmp::chunk::Message;
use crate::rtmp::ingest::{
    EARLY_BYTES_MAX, Ending, Event, Ingest, IngestError, PublishRequest, STREAM_ID, State,
};
use crate::rtmp::key::{Key, KeyError};
use crate::rtmp::message::{Command, WINDOW_BYTES, kind, status};

impl Ingest {
    pub(super) fn handle_command(&mut self, message: &Message) -> Result<(), IngestError> {
        let length = message.payload.len();
        if length > EARLY_BYTES_MAX {
            return Err(IngestError::CommandTooLong(length));
        }
        let command = Command::read(message)?;
        match command.name.as_str() {
            "connect" => self.connect(&command)?,
            "createStream" => self.answer(&command, f64::from(STREAM_ID).into()),
            "publish" => self.publish(&command)?,
            "play" | "play2" => return Err(IngestError::Play),
            // The first of two goodbyes is taken at its word, and not answered: encoders close behind them without
            // reading, and the reset which that answer causes would lose what they have not sent yet.
            "FCUnpublish" | "deleteStream" | "closeStream" => {
                if matches!(self.state, State::Publishing | State::Requested) {
                    self.end(Ending::Unpublished);
                }
            }
            // They prepare other servers, or ask what nobody needs to know.
            "releaseStream" | "FCPublish" | "_checkbw" | "getStreamLength" => {
                self.answer(&command, Value::Null);
            }
            // Answers, and what is asked without waiting for one.
            _ if command.transaction == 0.0 => {}
            "_result" | "_error" | "onStatus" => {}
            _ => {
                let status = status(
                    "error",
                    "NetConnection.Call.Failed",
                    "there is no such command",
                );
                self.outlet
                    .command(0, "_error", command.transaction, &[Value::Null, status]);
            }
        }
        Ok(())
    }

    fn connect(&mut self, command: &Command) -> Result<(), IngestError> {
        if !matches!(self.state, State::New) {
            return Err(IngestError::OutOfTurn("connect"));
        }
        let application = command
            .object
            .get("app")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !Key::is_application(application) {
            let description = KeyError::Application.to_string();
            let status = status("error", "NetConnection.Connect.InvalidApp", &description);
            self.outlet
                .command(0, "_error", command.transaction, &[Value::Null, status]);
            return Err(KeyError::Application.into());
        }
        let window = WINDOW_BYTES.to_be_bytes();
        self.outlet.control(kind::WINDOW_SIZE, &window);
        // 2: "dynamic", which lets the encoder take it as it likes.
        self.outlet
            .control(kind::PEER_BANDWIDTH, &[window.as_slice(), &[2]].concat());
        self.outlet.set_chunk_size(CHUNK_SIZE);
        let server = object([
            ("fmsVer", "FMS/3,5,7,7009".into()),
            ("capabilities", 31.0.into()),
        ]);
        let mut status = status("status", "NetConnection.Connect.Success", "connected");
        if let Value::Object(properties) = &mut status {
            properties.push(("objectEncoding".to_owned(), 0.0.into()));
        }
        self.outlet
            .command(0, "_result", command.transaction, &[server, status]);
        self.state = State::Connected {
            application: application.to_owned(),
        };
        Ok(())
    }

    fn publish(&mut self, command: &Command) -> Result<(), IngestError> {
        let State::Connected { application } = &self.state else {
            return Err(IngestError::OutOfTurn("publish"));
        };
        let name = command.string(0).unwrap_or_default();
        let Key { room, token } = Key::read(application, name)?;
        self.state = State::Requested;
        let request = PublishRequest {
            room,
            token,
            peer: self.peer,
        };
        self.events.push_back(Event::PublishRequested(request));
        Ok(())
    }

    fn answer(&mut self, command: &Command, value: Value) {
        if command.transaction != 0.0 {
            self.outlet
                .command(0, "_result", command.transaction, &[Value::Null, value]);
        }
    }
}

// What we send fits into one chunk of it.
const CHUNK_SIZE: u32 = 4096;
