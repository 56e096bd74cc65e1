//! A packager that is looked at when it says so, and no more.

use super::*;

const SECONDS: i64 = 20;
/// So long it takes until it is known how pictures come.
const SETTLED_S: i64 = 2;

/// One for each part, and a few more: five parts a second.
const LOOKS_MAX: i64 = (SECONDS - SETTLED_S) * 5 + 5;

/// How a packager was looked at.
struct Looked {
    /// How often, once it had settled.
    looks: i64,
    /// How late each part of the pictures was out after its last picture came.
    late: Vec<i64>,
    /// The same of sound.
    sound_late: Vec<i64>,
}

/// Pictures that are there come 12 to 20 ms after their time, sound 100 ms.
fn looked_at(is_there: impl Fn(i64) -> bool) -> Looked {
    let config = video_config(640);
    let came_us = |index: i64| index * 1_000_000 / 30 + 12_000 + index * 7 % 9 * 1_000;
    let (mut packager, mut tape) = (Packager::new(&Settings::default(), 0), Tape::default());
    let (mut now_us, mut looks, mut pictures, mut sounds) = (0, 0, 0, 0);
    while now_us < SECONDS * 1_000_000 {
        now_us = packager.next_look_us(now_us).min(now_us + 250_000);
        looks += i64::from(now_us >= SETTLED_S * 1_000_000);
        while came_us(pictures) <= now_us {
            let frame = picture(&config, pictures * 1_000_000 / 30, pictures % 60 == 0);
            if is_there(pictures) {
                packager.push_video(came_us(pictures), 0, frame);
            }
            pictures += 1;
        }
        while sounds * 20_000 + 100_000 <= now_us {
            packager.push_audio(sounds * 20_000 + 100_000, sound(sounds, 2));
            sounds += 1;
        }
        packager.advance(now_us);
        tape.drain(now_us, &mut packager);
    }
    let none = Vec::new();
    let parts = tape.parts_at.get(&TOP).unwrap_or(&none);
    // Six pictures a part.
    let last = (1..).map(|part| {
        let mut of_part = (part * 6 - 6..part * 6).rev();
        came_us(of_part.find(|index| is_there(*index)).unwrap())
    });
    let late = parts.iter().zip(last);
    let sounds = tape.parts_at.get(&AUDIO).unwrap();
    // Ten frames a part.
    let last = (1..).map(|part| (part * 10 - 1) * 20_000 + 100_000);
    let sound_late = sounds.iter().zip(last);
    Looked {
        looks,
        late: late.map(|(out_us, came_us)| out_us - came_us).collect(),
        sound_late: sound_late
            .map(|(out_us, came_us)| out_us - came_us)
            .collect(),
    }
}

#[test]
fn it_is_looked_at_when_a_part_is_whole_and_seldom_else() {
    let Looked { looks, late, .. } = looked_at(|_| true);
    assert!(late.len() >= 95, "{}", late.len());
    let settled = late.get(10..).unwrap();
    assert!(
        settled.iter().all(|us| (0..=12_000).contains(us)),
        "{settled:?}"
    );
    assert!(looks <= LOOKS_MAX, "{looks}");
}

#[test]
fn sound_waits_for_a_look_at_pictures_and_not_for_long() {
    let Looked { sound_late, .. } = looked_at(|_| true);
    assert!(sound_late.len() >= 95, "{}", sound_late.len());
    let settled = sound_late.get(10..).unwrap();
    assert!(
        settled.iter().all(|us| (0..=140_000).contains(us)),
        "{settled:?}"
    );
}

#[test]
fn sound_alone_waits_for_nothing() {
    let Looked {
        looks, sound_late, ..
    } = looked_at(|_| false);
    let settled = sound_late.get(10..).unwrap();
    // It begins when there was no picture for a second, and is not cut where a segment may end.
    let waited = 1_000_000..=1_020_000;
    assert!(settled.iter().all(|us| waited.contains(us)), "{settled:?}");
    assert!(looks < LOOKS_MAX * 6 / 5, "{looks}");
}

#[test]
fn a_part_whose_last_picture_was_left_out_does_not_wait_for_the_next_one() {
    // Keyframes are there.
    let Looked { looks, late, .. } = looked_at(|index| index % 13 != 5 || index % 60 == 0);
    assert!(late.len() >= 95, "{}", late.len());
    let settled = late.get(10..).unwrap();
    assert!(
        settled.iter().all(|us| (0..=46_000).contains(us)),
        "{settled:?}"
    );
    assert!(settled.iter().any(|us| *us > 30_000), "{settled:?}");
    assert!(looks <= LOOKS_MAX, "{looks}");
}
