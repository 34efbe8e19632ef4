//! Queues of segments: each segment stands in one of them at the most, and every step costs the same however many
//! there are. Doubly linked through one array, which is all the memory that they ever take.

/// No segment.
const NONE: u32 = u32::MAX;

/// All queues of a pool.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// For each segment: who stands in front of it, who behind it.
    links: Vec<(u32, u32)>,
    /// For each queue: its first, its last and how many.
    ends: Vec<(u32, u32, u32)>,
}

impl Queues {
    /// `queues` empty queues for segments below `segments`.
    pub(super) fn new(segments: u32, queues: usize) -> Queues {
        Queues { links: vec![(NONE, NONE); segments as usize], ends: vec![(NONE, NONE, 0); queues] }
    }

    /// Puts `segment`, which stands in no queue, behind all others of `queue`.
    pub(super) fn push(&mut self, queue: usize, segment: u32) {
        let (first, last, len) = self.ends[queue];
        self.links[segment as usize] = (last, NONE);
        match last {
            NONE => self.ends[queue] = (segment, segment, 1),
            last => {
                self.links[last as usize].1 = segment;
                self.ends[queue] = (first, segment, len + 1);
            }
        }
    }

    /// Takes `segment` out of `queue`, in which it stands.
    pub(super) fn remove(&mut self, queue: usize, segment: u32) {
        let (before, behind) = self.links[segment as usize];
        let (first, last, len) = &mut self.ends[queue];
        *len -= 1;
        match before {
            NONE => *first = behind,
            before => self.links[before as usize].1 = behind,
        }
        match behind {
            NONE => *last = before,
            behind => self.links[behind as usize].0 = before,
        }
    }

    /// The first of `queue`.
    pub(super) fn first(&self, queue: usize) -> Option<u32> {
        Some(self.ends[queue].0).filter(|first| *first != NONE)
    }

    /// How many stand in `queue`.
    pub(super) fn len(&self, queue: usize) -> u32 {
        self.ends[queue].2
    }

    /// Those in `queue`, the first one first.
    pub(super) fn iter(&self, queue: usize) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.first(queue), |at| Some(self.links[*at as usize].1).filter(|next| *next != NONE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(queues: &Queues, queue: usize) -> String {
        let all: String = queues.iter(queue).map(|segment| segment.to_string()).collect();
        assert_eq!(queues.len(queue) as usize, all.len());
        all
    }

    #[test]
    fn first_in_first_out_and_anyone_may_leave() {
        let mut queues = Queues::new(5, 2);
        (0..5).for_each(|segment| queues.push(0, segment));
        for (gone, rest) in [(0, "1234"), (4, "123"), (2, "13")] {
            queues.remove(0, gone);
            assert_eq!(drawn(&queues, 0), rest);
        }
        queues.push(1, 2);
        queues.push(0, 4);
        assert_eq!((drawn(&queues, 0), drawn(&queues, 1), queues.first(0)), ("134".into(), "2".into(), Some(1)));
        for gone in [1, 3, 4] {
            queues.remove(0, gone);
        }
        assert_eq!((drawn(&queues, 0), queues.first(0)), (String::new(), None));
    }
}
