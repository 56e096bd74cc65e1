//! A participant's media endpoint: its transport and the wire formats it speaks.

pub(crate) mod ice;
pub(crate) mod rtcp;
pub(crate) mod srtp;
