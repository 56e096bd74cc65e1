//! Shares a subscriber's estimate among its subscriptions: which layer each gets, and why not more.
//!
//! A pure function over plain rows. Audio is never considered: it always goes.

use crate::sfu::{PauseReason, View};

/// The most layers a track may have.
pub(crate) const LAYERS_MAX: usize = 8;

/// One layer a subscription could get, in the track's order, lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LayerOption {
    /// Packets of it arrive.
    pub(crate) live: bool,
    /// What it costs.
    pub(crate) bitrate_bps: u64,
    /// Picture size in pixels; 0 when unknown.
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// One video subscription that wants a share.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) view: View,
    pub(crate) layers: [LayerOption; LAYERS_MAX],
    pub(crate) layer_count: usize,
    /// Higher is served first.
    pub(crate) priority: u8,
}

/// What one subscription gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    /// Up to this layer.
    Layer(usize),
    /// Nothing.
    Paused(PauseReason),
}

/// Gives each request its layer.
///
/// Holds: a request that is shown always gets at least the lowest live layer, whatever the estimate
/// (rule 12 of the data plane: media without feedback never starves). `None`: no limit.
pub(crate) fn allocate(estimate_bps: Option<u64>, requests: &[Request], out: &mut Vec<Allocation>) {
    out.clear();
    let mut left = estimate_bps.unwrap_or(u64::MAX);
    for request in requests {
        let floor = lowest_live(request).unwrap_or(0);
        let allocation = match request.view.paused {
            true => Allocation::Paused(PauseReason::View),
            false => {
                left = left.saturating_sub(bitrate(request, floor));
                Allocation::Layer(floor)
            }
        };
        out.push(allocation);
    }
    raise_in_turn(&mut left, requests, out);
}

/// Raises one layer at a time, most important first, so that nobody gets a top layer while another
/// of the same importance stays at the bottom.
fn raise_in_turn(left: &mut u64, requests: &[Request], out: &mut [Allocation]) {
    loop {
        let mut best: Option<(u8, usize, usize)> = None;
        for (index, (request, allocation)) in requests.iter().zip(out.iter()).enumerate() {
            let Allocation::Layer(current) = *allocation else {
                continue;
            };
            let Some(next) = next_live(request, current) else {
                continue;
            };
            let extra = bitrate(request, next).saturating_sub(bitrate(request, current));
            let better = best.is_none_or(|(priority, level, _)| {
                request.priority > priority || (request.priority == priority && current < level)
            });
            if extra <= *left && better {
                best = Some((request.priority, current, index));
            }
        }
        let Some((_, current, index)) = best else {
            return;
        };
        let (Some(request), Some(slot)) = (requests.get(index), out.get_mut(index)) else {
            return;
        };
        let Some(next) = next_live(request, current) else {
            return;
        };
        *left -= bitrate(request, next)
            .saturating_sub(bitrate(request, current))
            .min(*left);
        *slot = Allocation::Layer(next);
    }
}

/// The next higher live layer that the view has use for.
fn next_live(request: &Request, current: usize) -> Option<usize> {
    if is_enough(request, current) {
        return None;
    }
    let cap = request.view.layer.map_or(usize::MAX, usize::from);
    (current + 1..request.layer_count.min(LAYERS_MAX))
        .find(|&layer| layer <= cap && request.layers.get(layer).is_some_and(|layer| layer.live))
}

/// Whether this layer already fills the view: its height is at least the shown one, with an eighth
/// of tolerance so that 176 lines fill a tile of 190.
fn is_enough(request: &Request, layer: usize) -> bool {
    let Some(option) = request.layers.get(layer) else {
        return true;
    };
    let (shown, has) = match (request.view.height, request.view.width) {
        (0, 0) => return false,
        (0, width) => (width, option.width),
        (height, _) => (height, option.height),
    };
    has != 0 && u32::from(has) * 8 >= u32::from(shown) * 7
}

fn lowest_live(request: &Request) -> Option<usize> {
    let count = request.layer_count.min(LAYERS_MAX);
    request
        .layers
        .iter()
        .take(count)
        .position(|layer| layer.live)
}

fn bitrate(request: &Request, layer: usize) -> u64 {
    request
        .layers
        .get(layer)
        .map_or(0, |layer| layer.bitrate_bps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(view: View) -> Request {
        let mut layers = [LayerOption::default(); LAYERS_MAX];
        for (index, (height, bitrate_bps)) in [(180, 150_000), (360, 500_000), (720, 1_500_000)]
            .into_iter()
            .enumerate()
        {
            layers[index] = LayerOption {
                live: true,
                bitrate_bps,
                width: height * 2,
                height,
            };
        }
        Request {
            view,
            layers,
            layer_count: 3,
            priority: 0,
        }
    }

    fn allocated(estimate_bps: Option<u64>, requests: &[Request]) -> Vec<Allocation> {
        let mut out = Vec::new();
        allocate(estimate_bps, requests, &mut out);
        out
    }

    #[test]
    fn without_a_limit_the_size_on_screen_decides() {
        let tile = View {
            height: 180,
            ..View::default()
        };
        let half = View {
            height: 400,
            ..View::default()
        };
        let wide = View {
            width: 300,
            ..View::default()
        };
        let got = allocated(
            None,
            &[
                request(tile),
                request(half),
                request(View::default()),
                request(wide),
            ],
        );
        let expected = [0, 1, 2, 0].map(Allocation::Layer);
        assert_eq!(got, expected);
    }

    #[test]
    fn the_lowest_layer_goes_whatever_the_estimate() {
        let got = allocated(
            Some(1),
            &[request(View::default()), request(View::default())],
        );
        assert_eq!(got, [Allocation::Layer(0), Allocation::Layer(0)]);
    }

    #[test]
    fn equals_rise_together_and_the_important_first() {
        let plain = request(View::default());
        let got = allocated(Some(1_100_000), &[plain.clone(), plain.clone()]);
        assert_eq!(got, [Allocation::Layer(1), Allocation::Layer(1)]);
        let important = Request {
            priority: 9,
            ..plain.clone()
        };
        let got = allocated(Some(1_700_000), &[plain, important]);
        assert_eq!(got, [Allocation::Layer(0), Allocation::Layer(2)]);
    }

    #[test]
    fn dead_layers_are_passed_over_and_hidden_views_get_nothing() {
        let mut holed = request(View::default());
        holed.layers[0].live = false;
        holed.layers[2].live = false;
        let hidden = request(View {
            paused: true,
            ..View::default()
        });
        let capped = request(View {
            layer: Some(1),
            ..View::default()
        });
        assert_eq!(
            allocated(None, &[holed, hidden, capped]),
            [
                Allocation::Layer(1),
                Allocation::Paused(PauseReason::View),
                Allocation::Layer(1)
            ]
        );
    }
}
