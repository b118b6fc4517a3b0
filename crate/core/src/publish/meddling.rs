//! How far others than the daemon moved the clock, of which the daemon need not know yet.
//!
//! What a daemon tells is about the clock as its measurements saw it. When another moves that clock by less
//! than they differ among themselves, it takes the daemon many of them to notice: chrony has told 1.45 ms
//! of a clock that an `adjtime` of 2 ms had put off by 1.65. Until the daemon has forgotten all that it
//! measured before a move, the clock is off by no more than what it tells and that move.
//!
//! A step that is larger than what daemon and page may be off together is not taken for noise: while the daemon
//! does not know of it the two disagree, and the [`Witness`](super::witness::Witness) holds the bound. Once they
//! have agreed often enough, only what all steps may come to without having shown is still held against the
//! daemon. That it learns of the one of two such steps after they have cancelled each other for so long is not.

use std::collections::VecDeque;

/// So many measurements a daemon may go by: chrony's, which keeps the most. The one that it tells of in the
/// interval in which the clock is moved may be of before.
const REMEMBERED: u8 = 64 + 1;

/// More moves than this are remembered as fewer, larger ones: of one a measurement, as they are.
const MOVES: usize = REMEMBERED as usize;

/// Of more steps than this, what they can come to is not worked out.
const STEPS: usize = 12;

/// The moves that the daemon may have missed.
#[derive(Debug, Default)]
pub(super) struct Meddling {
    moves: VecDeque<Move>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Move {
    /// The clock was set by so much.
    by_ns: i128,
    /// And was moved by no more than this besides, one way or the other.
    within_ns: u128,
    /// What the daemon has measured since.
    measured: u8,
}

impl Meddling {
    /// The clock may be off by so much more than its daemon tells: the daemon may have missed any of the moves.
    pub(super) fn missed_ns(&self) -> u128 {
        let sum = |sign: i128| -> u128 {
            let set = self.moves.iter().map(|it| it.by_ns * sign);
            set.filter(|ns| *ns > 0).map(i128::unsigned_abs).sum()
        };
        sum(1).max(sum(-1)) + self.within_ns()
    }

    /// The clock was moved by so much, give or take `within_ns`, from where the daemon takes it to be.
    pub(super) fn note(&mut self, by_ns: i128, within_ns: u128) {
        if by_ns == 0 && within_ns == 0 {
            return;
        }
        if self.moves.len() == MOVES
            && let Some(oldest) = self.moves.pop_front()
            && let Some(second) = self.moves.front_mut()
        {
            *second = Move {
                by_ns: 0,
                within_ns: oldest.most_ns() + second.most_ns(),
                measured: oldest.measured.min(second.measured),
            };
        }
        self.moves.push_back(Move {
            by_ns,
            within_ns,
            measured: 0,
        });
    }

    /// The daemon has measured the clock.
    pub(super) fn hear(&mut self) {
        for it in &mut self.moves {
            it.measured += 1;
        }
        self.moves.retain(|it| it.measured < REMEMBERED);
    }

    /// Daemon and page agree, and would not if the daemon had missed steps that come to more than `masked_ns`.
    pub(super) fn see_through(&mut self, masked_ns: u128) {
        let steps: Vec<_> = self.moves.iter().filter(|it| it.by_ns != 0).collect();
        let Some(measured) = steps.iter().map(|it| it.measured).min() else {
            return;
        };
        let masked_ns = masked_ns + self.within_ns();
        let left = Move {
            by_ns: 0,
            within_ns: steps.iter().map(|it| it.within_ns).sum::<u128>()
                + most_below(masked_ns, &steps),
            measured,
        };
        self.moves.retain(|it| it.by_ns == 0);
        self.moves.push_back(left);
    }

    fn within_ns(&self) -> u128 {
        self.moves.iter().map(|it| it.within_ns).sum()
    }
}

impl Move {
    fn most_ns(&self) -> u128 {
        self.by_ns.unsigned_abs() + self.within_ns
    }
}

/// The most that any of the steps come to together, of what is no more than `masked_ns`.
fn most_below(masked_ns: u128, steps: &[&Move]) -> u128 {
    if steps.len() > STEPS {
        return masked_ns;
    }
    let mut sums_ns = vec![0_i128];
    for step in steps {
        let with_it: Vec<_> = sums_ns.iter().map(|ns| ns + step.by_ns).collect();
        sums_ns.extend(with_it);
    }
    let sums_ns = sums_ns.into_iter().map(i128::unsigned_abs);
    sums_ns
        .filter(|ns| *ns <= masked_ns)
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{MOVES, Meddling, REMEMBERED, STEPS};

    fn moved(moves: &[(i128, u128)]) -> Meddling {
        let mut meddling = Meddling::default();
        for (by_ns, within_ns) in moves {
            meddling.note(*by_ns, *within_ns);
        }
        meddling
    }

    /// What is left of moves where daemon and page agree.
    fn left(moves: &[(i128, u128)], masked_ns: u128) -> u128 {
        let mut meddling = moved(moves);
        meddling.see_through(masked_ns);
        meddling.missed_ns()
    }

    #[test]
    fn any_of_the_moves_may_have_been_missed() {
        assert_eq!(moved(&[(4, 0), (-4, 0), (4, 0)]).missed_ns(), 8);
        assert_eq!(moved(&[(-5, 1), (4, 0), (0, 2)]).missed_ns(), 8);
    }

    #[test]
    fn what_would_have_shown_was_not_missed_and_nothing_else_is_taken_off() {
        assert_eq!(left(&[(900, 0)], 100), 0);
        assert_eq!(left(&[(90, 0)], 100), 90);
        assert_eq!(left(&[(9, 0), (900, 0), (-900, 0)], 100), 9);
        assert_eq!(left(&[(900, 0), (-850, 0)], 100), 50);
        assert_eq!(left(&[(9, 0), (-9, 0), (9, 0)], 100), 18);
        // What is not known of it may be what would have hidden it.
        assert_eq!(left(&[(110, 20)], 100), 130);
        assert_eq!(left(&[(900, 20), (0, 3)], 100), 23);
        let more = [(9_i128, 0_u128); STEPS + 1];
        assert_eq!(left(&more, 100), 100);
    }

    #[test]
    fn each_move_is_forgotten_after_as_many_measurements_as_a_daemon_keeps() {
        let mut meddling = moved(&[(1, 0)]);
        for heard in 1..REMEMBERED {
            meddling.hear();
            if heard == 10 {
                meddling.note(2, 0);
                meddling.see_through(100);
                // By then it is one move, as young as the younger.
                assert_eq!(meddling.missed_ns(), 3);
                meddling.note(0, 4);
            }
        }
        assert_eq!(meddling.missed_ns(), 7);
        for _ in 0..10 {
            assert_eq!(meddling.missed_ns(), 7);
            meddling.hear();
        }
        meddling.hear();
        assert_eq!(meddling.missed_ns(), 0);
    }

    #[test]
    fn of_more_moves_than_are_remembered_none_is_lost() {
        let many = vec![(1_i128, 1_u128); 3 * MOVES];
        assert_eq!(moved(&many).missed_ns(), 6 * MOVES as u128);
        assert_eq!(moved(&many).moves.len(), MOVES);
    }
}
