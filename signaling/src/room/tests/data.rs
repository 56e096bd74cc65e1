//! Messages among participants, and what they say about themselves.

use super::*;

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn data_is_stamped_checked_and_falls_back_to_the_socket() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    house.heard(bob);
    house.take_commands();
    let message = |json: &str, payload: &[u8]| {
        let length = u16::try_from(json.len()).unwrap().to_be_bytes();
        bytes::Bytes::from([&length[..], json.as_bytes(), payload].concat())
    };
    let receive = |house: &mut House, message| {
        let channel = DataChannel::Lossy;
        house.event(Event::DataReceived {
            participant: ann,
            channel,
            message,
        });
        house.take_commands()
    };
    let forged = message(
        r#"{"to":["bob","nobody"],"from":"carol","topic":"chat"}"#,
        b"hi",
    );
    let commands = receive(&mut house, forged);
    let [
        Command::SendData {
            to,
            except,
            channel,
            message: sent,
            ..
        },
    ] = &commands[..]
    else {
        panic!("{commands:?}");
    };
    assert_eq!(
        (to, except, channel),
        (&Some(vec![bob]), &None, &DataChannel::Lossy)
    );
    assert_eq!(&sent[2..], br#"{"from":"ann","topic":"chat"}hi"#);
    assert!(receive(&mut house, message(r#"{"to":["nobody"]}"#, b"")).is_empty());
    assert!(receive(&mut house, message("{", b"")).is_empty());
    assert!(receive(&mut house, bytes::Bytes::from_static(&[0xff, 0xff])).is_empty());
    house.event(Event::DataUndelivered {
        participant: bob,
        message: sent.clone(),
    });
    let told = house.heard_one(bob);
    assert_eq!(
        (&told["from"], &told["data"]),
        (&json!("ann"), &json!("hi"))
    );
    house.heard(ann);
    house.say(
        ann,
        &json!({ "t": "send", "id": 1, "topic": "chat", "data64": "AP8=" }),
    );
    assert_eq!(house.types(ann), ["ok"]);
    let commands = house.take_commands();
    assert!(
        matches!(&commands[..], [Command::SendData { to: None, except, channel, message, .. }]
        if *except == Some(ann) && *channel == DataChannel::Reliable && message.ends_with(&[0, 255]))
    );
}

#[test]
fn without_the_grant_no_data_is_passed_on() {
    let mut house = House::new();
    let mut admission = house.admission("ann");
    admission.grants.media.publish_data = false;
    let ann = house.admit(admission);
    house.take_commands();
    let message = bytes::Bytes::from_static(b"\0\x02{}hi");
    let channel = DataChannel::Reliable;
    house.event(Event::DataReceived {
        participant: ann,
        channel,
        message,
    });
    assert!(house.take_commands().is_empty());
    let send = json!({ "t": "send", "id": 1, "data": "hi" });
    assert_eq!(house.refused(ann, &send), "forbidden");
}

#[test]
fn guests_change_their_name_and_holders_of_the_grant_everything() {
    let mut house = House::new();
    let mut admission = house.admission("guest-1");
    admission.grants.guest = true;
    let guest = house.admit(admission);
    let mut admission = house.admission("ann");
    admission.grants.update_own_metadata = true;
    let ann = house.admit(admission);
    house.heard(ann);
    house.say(guest, &json!({ "t": "self", "id": 1, "name": "Gus" }));
    assert_eq!(house.heard_one(ann)["patch"], json!({ "name": "Gus" }));
    let change = json!({ "t": "self", "id": 2, "name": "Gus", "attributes": { "a": "b" } });
    assert_eq!(house.refused(guest, &change), "forbidden");
    house.heard(ann);
    house.say(
        ann,
        &json!({ "t": "self", "id": 3, "attributes": { "a": "1", "b": "2" } }),
    );
    house.say(
        ann,
        &json!({ "t": "self", "id": 4, "attributes": { "a": "" }, "metadata": "m" }),
    );
    let heard = house.heard(guest);
    assert_eq!(
        heard.last().unwrap()["patch"],
        json!({ "metadata": "m", "attributes": { "b": "2" } })
    );
}
