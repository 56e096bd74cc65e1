//! Joining, publishing, subscribing.

use sfu::Codec;

use crate::browser::Options;
use crate::world::World;

const RIDS: &[&str] = &["q", "h", "f"];

#[test]
fn what_one_publishes_the_other_receives_decrypted() {
    let mut world = World::new(1);
    let alice = world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(3000);
    let bob = &world.browsers[bob];
    assert!(bob.is_connected());
    assert!(
        bob.video(0).frames().len() > 60,
        "{}",
        bob.video(0).frames().len()
    );
    assert!(
        bob.audio(0).frames().len() > 120,
        "{}",
        bob.audio(0).frames().len()
    );
    assert_eq!(bob.video(0).holes(), 0);
    assert_eq!(
        bob.video(0).frames().last().unwrap().encoding,
        2,
        "the top layer"
    );
    let alice = &world.browsers[alice];
    assert!(
        alice.transport_feedback > 10,
        "{}",
        alice.transport_feedback
    );
    assert!(alice.receiver_reports > 0);
    world.finish();
}
