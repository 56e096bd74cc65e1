//! Offers and their answers, in and out of turn.

use super::*;

#[test]
fn the_first_offer_is_answered_in_welcome() {
    let mut house = House::new();
    let admission = Admission {
        offer: Some(core_offer(1)),
        ..house.admission("ann")
    };
    let ann = house.admit(admission);
    assert!(matches!(
        house.take_commands()[..],
        [Command::Join { .. }, Command::Offer { .. }]
    ));
    let bob = house.join("bob");
    assert_eq!(house.types(bob), ["welcome"]);
    house.publish(ann, 5);
    house.event(Event::SlotsNeeded {
        participant: ann,
        audio: 1,
        video: 2,
    });
    assert!(house.heard(ann).is_empty(), "nothing before welcome");
    let mid = Mid::parse("0").unwrap();
    let answer = Ok(Answer {
        sdp: "v=0 answer".to_owned(),
        published: vec![Published {
            mid,
            track: Ok(track_id(5)),
        }],
        slots: vec![Slot {
            mid: Mid::parse("3").unwrap(),
            track: None,
            timestamp: None,
        }],
    });
    house.event(Event::Answered {
        participant: ann,
        offer: 1,
        answer,
    });
    let heard = house.heard(ann);
    let welcome = &heard[0];
    assert_eq!(
        welcome["answer"]["published"],
        json!([{ "mid": "0", "track": "t_5" }])
    );
    assert_eq!(welcome["self"]["tracks"][0]["mid"], "0");
    assert_eq!(welcome["slots"], json!({ "3": null }));
    assert_eq!(welcome["participants"][0]["identity"], "bob");
    assert_eq!(
        (&heard[1]["t"], &heard[1]["n"]),
        (&json!("need"), &json!(1))
    );
}

#[test]
fn a_bad_first_offer_still_lets_one_in() {
    let mut house = House::new();
    let admission = Admission {
        offer: Some(core_offer(4)),
        ..house.admission("ann")
    };
    let ann = house.admit(admission);
    let answer = Err(OfferError::BadSdp("line 1".to_owned()));
    house.event(Event::Answered {
        participant: ann,
        offer: 4,
        answer,
    });
    let heard = house.heard(ann);
    assert_eq!(
        (&heard[0]["t"], heard[0].get("answer")),
        (&json!("welcome"), None)
    );
    assert_eq!(
        (&heard[1]["code"], &heard[1]["id"]),
        (&json!("bad_sdp"), &json!(4))
    );
}

#[test]
fn offers_are_answered_in_turn_and_refused_out_of_turn() {
    let mut house = House::new();
    let ann = house.join("ann");
    house.heard(ann);
    let offer = |id: u32| json!({ "t": "offer", "id": id, "sdp": "v=0" });
    house.say(ann, &offer(3));
    assert!(house.heard(ann).is_empty());
    assert_eq!(house.refused(ann, &offer(3)), "stale_offer");
    assert_eq!(house.refused(ann, &offer(2)), "stale_offer");
    assert_eq!(house.refused(ann, &offer(4)), "conflict");
    for (error, code) in [
        (OfferError::BadSdp(String::new()), "bad_sdp"),
        (OfferError::LimitExceeded(String::new()), "limit_exceeded"),
        (OfferError::CodecUnsupported, "codec_unsupported"),
    ] {
        let id = house.room.sessions[&ann].offers.outstanding.unwrap();
        house.event(Event::Answered {
            participant: ann,
            offer: id,
            answer: Err(error),
        });
        assert_eq!(house.heard_one(ann)["code"], code);
        house.say(ann, &offer(id + 1));
    }
    let two_forms = json!({ "t": "offer", "id": 90, "sdp": "v=0", "sdpz": "" });
    assert_eq!(house.refused(ann, &two_forms), "conflict");
    house.now += Duration::from_secs(10);
    let codes: Vec<_> = (0..11).map(|_| house.refused(ann, &offer(1))).collect();
    assert_eq!(codes[9], "stale_offer");
    assert_eq!(codes[10], "rate_limited");
}

#[test]
fn a_refused_publication_names_its_reason() {
    let mut house = House::new();
    let ann = house.join("ann");
    house.say(ann, &json!({ "t": "offer", "id": 1, "sdp": "v=0" }));
    house.heard(ann);
    let refused = [
        (sfu::PublishError::Denied, "publish_denied"),
        (sfu::PublishError::NoSuchSection, "not_found"),
        (sfu::PublishError::LimitExceeded, "limit_exceeded"),
        (sfu::PublishError::CodecUnsupported, "codec_unsupported"),
    ];
    let mid = Mid::parse("0").unwrap();
    let published = refused
        .iter()
        .map(|(error, _)| Published {
            mid,
            track: Err(error.clone()),
        })
        .collect();
    let answer = Ok(Answer {
        sdp: String::new(),
        published,
        slots: Vec::new(),
    });
    house.event(Event::Answered {
        participant: ann,
        offer: 1,
        answer,
    });
    let answer = house.heard_one(ann);
    for (index, (_, code)) in refused.iter().enumerate() {
        assert_eq!(answer["published"][index]["error"], *code);
    }
}
