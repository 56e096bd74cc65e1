//! One participant's media endpoint: its transport and the SDP it agreed on.

mod dtls;
mod negotiation;
mod sctp;
