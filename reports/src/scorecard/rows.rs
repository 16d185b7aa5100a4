//! The rows: claims that others make for the design that Backdrop has, in a few words, and what is measured here for each. What they
//! measured elsewhere is told and never compared: it is another program on another machine.
//!
//! Names of figures, scenarios and controls are those of the benchmarks and of the chaos runner; `tests/scorecard.rs` looks for each
//! in their sources.

use crate::record::Better::{self, Higher, Lower};

/// A claim and what is measured for it.
#[derive(Debug)]
pub struct Claim {
    /// Anchor, unique in the page.
    pub id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What it says of the design.
    pub text: &'static str,
    /// The figures that come with the claim.
    pub elsewhere: &'static [Elsewhere],
    /// What is wrong with them, if they do not add up.
    pub remark: Option<&'static str>,
    /// What is measured here.
    pub measures: &'static [Measure],
}

/// A figure of somebody else's machine, as it was told.
#[derive(Debug)]
pub struct Elsewhere {
    /// What it is.
    pub what: &'static str,
    /// Of the naive way.
    pub naive: &'static str,
    /// Of the optimised one.
    pub optimised: &'static str,
}

/// One figure of ours beside the naive way's.
#[derive(Debug)]
pub struct Measure {
    /// What it is.
    pub what: &'static str,
    /// Which way it is better.
    pub better: Better,
    /// Who measures it.
    pub source: Source,
}

/// Who measures a figure.
#[derive(Debug)]
pub enum Source {
    /// The benchmarks, both sides in one process.
    Bench {
        /// Group that `just bench` runs it by.
        group: &'static str,
        /// Its name in the file of figures.
        figure: &'static str,
    },
    /// Trials of one chaos run.
    Run {
        /// The figure.
        figure: &'static str,
        /// Another one of the same trial that it is divided by.
        per: Option<&'static str>,
        /// The naive way's trial; none where it does not live long enough to have the figure.
        naive: Option<Trial>,
        /// Ours.
        ours: Trial,
    },
}

/// A trial of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Scenario.
    pub scenario: &'static str,
    /// One of its controls; none for its own trial.
    pub control: Option<&'static str>,
}

impl Trial {
    /// The scenario, with its control.
    #[must_use]
    pub fn name(self) -> String {
        match self.control {
            Some(control) => format!("{}, {control}", self.scenario),
            None => self.scenario.to_owned(),
        }
    }
}

impl Measure {
    /// The command that measures it.
    #[must_use]
    pub fn command(&self) -> String {
        match &self.source {
            Source::Bench { group, .. } => format!("just bench {group}"),
            Source::Run { naive, ours, .. } => {
                let other = naive.filter(|naive| naive.scenario != ours.scenario);
                let other = other.map_or_else(String::new, |naive| format!(" {}", naive.scenario));
                format!("just chaos run {}{other}", ours.scenario)
            }
        }
    }
}

const fn told(what: &'static str, naive: &'static str, optimised: &'static str) -> Elsewhere {
    Elsewhere {
        what,
        naive,
        optimised,
    }
}

const fn bench(
    what: &'static str,
    better: Better,
    group: &'static str,
    figure: &'static str,
) -> Measure {
    Measure {
        what,
        better,
        source: Source::Bench { group, figure },
    }
}

const fn of(scenario: &'static str) -> Trial {
    Trial {
        scenario,
        control: None,
    }
}

const fn control(scenario: &'static str, name: &'static str) -> Trial {
    Trial {
        scenario,
        control: Some(name),
    }
}

const SHARED: Trial = of("million-switch");
const OWNED: Trial = of("exclusive-control");
const OWNED_BARE: Trial = control("exclusive-control", "protections-off");

/// Every row, in the order of the page.
pub const CLAIMS: &[Claim] = &[
    Claim {
        id: "load",
        title: "A million sessions under a real limit",
        text: "1.2 million sessions switch their background every 3 s among 16, under memory and CPU stress. The naive service owns a \
               texture per session, under the same load and the same limit of the kernel.",
        elsewhere: &[
            told("peak memory", "42.7 GB", "18.3 GB"),
            told("OOM kills per hour", "17", "0"),
            told("mean pause", "142 ms", "8.3 ms"),
        ],
        remark: None,
        measures: &[
            Measure {
                what: "sessions that hold a background",
                better: Higher,
                source: Source::Run {
                    figure: "sessions_reached",
                    per: None,
                    naive: Some(OWNED),
                    ours: SHARED,
                },
            },
            Measure {
                what: "peak memory of the service for each of them",
                better: Lower,
                source: Source::Run {
                    figure: "service_peak_mib",
                    per: Some("sessions_reached"),
                    naive: Some(OWNED),
                    ours: SHARED,
                },
            },
            Measure {
                what: "peak memory of the service",
                better: Lower,
                source: Source::Run {
                    figure: "service_peak_mib",
                    per: None,
                    naive: Some(OWNED_BARE),
                    ours: SHARED,
                },
            },
            Measure {
                what: "kernel kills, where the naive service has nothing to protect it",
                better: Lower,
                source: Source::Run {
                    figure: "service_oom_kills",
                    per: None,
                    naive: Some(OWNED_BARE),
                    ours: SHARED,
                },
            },
            Measure {
                what: "kernel kills per hour, over a whole one",
                better: Lower,
                source: Source::Run {
                    figure: "kills_per_hour",
                    per: None,
                    naive: None,
                    ours: of("soak"),
                },
            },
            Measure {
                what: "switch, 99th percentile from its planned time, under stress",
                better: Lower,
                source: Source::Run {
                    figure: "switch_p99_ms.pressed",
                    per: None,
                    naive: None,
                    ours: SHARED,
                },
            },
        ],
    },
    Claim {
        id: "sharing",
        title: "Pixels are shared and loaded once",
        text: "What all users of a background have in common is loaded once; what is a user's own is passed in with each call.",
        elsewhere: &[
            told("memory per background", "24 MB", "2.1 MB"),
            told("100,000 users", "2.4 TB", "210 GB"),
            told("first load", "320 ms", "constant afterwards"),
        ],
        remark: Some(
            "These do not add up: an RGBA picture of 1920 × 1080 pixels has 8.3 MB, not 24, and 2.1 MB for each of 100,000 users is a \
             copy each, not sharing. What follows is what was measured here.",
        ),
        measures: &[
            bench(
                "bytes per user, 100,000 users on 16 backgrounds",
                Lower,
                "sharing",
                "sharing: bytes per user, 100,000 users on 16 backgrounds",
            ),
            bench(
                "bytes per user, 64 users",
                Lower,
                "sharing",
                "sharing: bytes per user, 64 users on 16 backgrounds",
            ),
            bench(
                "first load of a background",
                Lower,
                "sharing",
                "sharing: first load of a background",
            ),
            bench(
                "time until a further user has it",
                Lower,
                "sharing",
                "sharing: time until a further user has its background",
            ),
        ],
    },
    Claim {
        id: "hot-update",
        title: "A picture is replaced under load",
        text: "Every live session takes a new version up, without restart or interruption, and none sees an older one after it. The \
               naive session keeps the copy that it made.",
        elsewhere: &[],
        remark: None,
        measures: &[Measure {
            what: "answers that contradict what was acknowledged",
            better: Lower,
            source: Source::Run {
                figure: "truth_violations",
                per: None,
                naive: Some(control("hot-update", "own-copies")),
                ours: of("hot-update"),
            },
        }],
    },
    Claim {
        id: "metadata",
        title: "Metadata is immutable, its index has no global lock",
        text: "A changed copy shares what did not change; readers wait for nobody.",
        elsewhere: &[
            told("construct and tag once", "128 µs", "42 µs"),
            told("concurrent read, 16 threads", "9.3", "2.1"),
        ],
        remark: None,
        measures: &[
            bench(
                "construct and tag once",
                Lower,
                "metadata",
                "metadata: constructed, and tagged once",
            ),
            bench(
                "a changed copy, one more tag",
                Lower,
                "metadata",
                "metadata: a changed copy, one more tag",
            ),
            bench(
                "concurrent read, 16 threads",
                Lower,
                "metadata",
                "metadata: concurrent read, 16 threads",
            ),
        ],
    },
    Claim {
        id: "pool",
        title: "Frame buffers are kept",
        text: "A buffer is taken from a pool and given back, and its pixels are not cleared in between.",
        elsewhere: &[
            told("collections per second", "124", "3"),
            told("allocation", "840 ns", "92 ns"),
            told("allocations", "100 %", "40 %"),
        ],
        remark: None,
        measures: &[
            bench(
                "take and give back",
                Lower,
                "frame-buffers",
                "frame buffer: take and give back",
            ),
            bench(
                "requests to the allocator per frame",
                Lower,
                "frame-buffers",
                "frame buffer: requests to the allocator per frame",
            ),
            bench(
                "page faults per frame",
                Lower,
                "frame-buffers",
                "frame buffer: page faults per frame",
            ),
        ],
    },
    Claim {
        id: "hot-path",
        title: "The hot path allocates nothing",
        text: "A reference to a shared texture is an index: no box, no copy, no request to the allocator.",
        elsewhere: &[told("heap objects per call", "some", "0")],
        remark: None,
        measures: &[
            bench(
                "allocations per 1,000 leases",
                Lower,
                "lease",
                "allocations per 1,000 leases, held and by index",
            ),
            bench(
                "clone and drop of a lease",
                Lower,
                "lease",
                "lease on a held handle, clone and drop, against Arc",
            ),
        ],
    },
    Claim {
        id: "index",
        title: "A lookup takes no lock",
        text: "Hits of any number of threads do not wait for each other, and a cold id is loaded once, however many ask.",
        elsewhere: &[
            told("hit", "–", "about 10 ns"),
            told("first write", "–", "about 100 µs"),
        ],
        remark: None,
        measures: &[
            bench(
                "hit by id, 1 thread",
                Lower,
                "lookup",
                "lookup: hit by id, 1 thread(s)",
            ),
            bench(
                "hit by id, 16 threads",
                Lower,
                "lookup",
                "lookup: hit by id, 16 thread(s)",
            ),
            bench(
                "first write of an id",
                Lower,
                "lookup",
                "lookup: first write of an id",
            ),
            bench(
                "loads for 16 callers of a cold id",
                Lower,
                "lookup",
                "lookup: loads for 16 callers of a cold id",
            ),
        ],
    },
    Claim {
        id: "life-cycle",
        title: "Cache and pool have one life cycle",
        text: "An eviction gives its block back to the pool, and the next load takes it.",
        elsewhere: &[told("reused blocks", "31 %", "89 %")],
        remark: None,
        measures: &[
            bench(
                "loads into a reused block",
                Higher,
                "churn",
                "pool churn: share of loads into a reused block",
            ),
            bench(
                "page faults per load",
                Lower,
                "churn",
                "pool churn: page faults per load",
            ),
            bench("time per load", Lower, "churn", "pool churn: time per load"),
        ],
    },
    Claim {
        id: "keys",
        title: "Requests that look alike share an entry",
        text: "Size, format and quality of what is asked for are normalised before they are part of a key.",
        elsewhere: &[told("entries for widths of 767 and 768 px", "two", "one")],
        remark: Some(
            "As it is told, sizes are rounded down to multiples of 16, which parts these two, and the key does not say of which picture \
             it is. Here they are rounded up and the frame is cut back to what was asked; id and version are part of the key.",
        ),
        measures: &[
            bench(
                "entries for 96 requests: 16 widths, jpeg and JPEG, qualities 95 and above",
                Lower,
                "keys",
                "keys: entries for 96 requests that look alike",
            ),
            bench(
                "make and hash a key",
                Lower,
                "keys",
                "keys: make and hash one",
            ),
        ],
    },
    Claim {
        id: "eviction",
        title: "Eviction blocks no lookup",
        text: "While 3 GiB are evicted, lookups go on; here beside the longest of a time in which nothing is evicted.",
        elsewhere: &[],
        remark: None,
        measures: &[bench(
            "longest lookup",
            Lower,
            "shrink",
            "shrink 4 to 1 GiB, a tenth pinned: concurrent lookup, against none going on",
        )],
    },
    Claim {
        id: "objects",
        title: "What 500,000 calls leave on the heap",
        text: "Sessions are records of a table that are changed in place; the naive way makes an object for each.",
        elsewhere: &[
            told("objects", "500,000", "128"),
            told("bytes", "120 MB", "4.1 MB"),
        ],
        remark: None,
        measures: &[
            bench(
                "objects made by 500,000 switches",
                Lower,
                "session-objects",
                "session objects: made by 500,000 switches",
            ),
            bench(
                "objects made by 500,000 users who join",
                Lower,
                "session-objects",
                "session objects: made by 500,000 users who join",
            ),
            bench(
                "bytes held for 500,000 users",
                Lower,
                "session-objects",
                "session objects: bytes held for 500,000 users",
            ),
        ],
    },
    Claim {
        id: "pauses",
        title: "Where the pauses went",
        text: "A preview out of buffers that are kept, beside one that makes its buffers anew.",
        elsewhere: &[
            told("allocations per operation", "4,200", "1,500"),
            told("pause", "100 %", "36 %"),
        ],
        remark: None,
        measures: &[
            bench(
                "requests to the allocator per preview",
                Lower,
                "preview",
                "preview: requests to the allocator",
            ),
            bench(
                "page faults per preview",
                Lower,
                "preview",
                "preview: page faults",
            ),
            bench(
                "preview, 99th percentile",
                Lower,
                "preview",
                "preview: 99th percentile",
            ),
        ],
    },
    Claim {
        id: "governor",
        title: "Memory is given back under pressure",
        text: "A neighbour under the same limit grows. With the governor the service evicts in time; without it the kernel kills it.",
        elsewhere: &[],
        remark: None,
        measures: &[Measure {
            what: "kernel kills",
            better: Lower,
            source: Source::Run {
                figure: "service_oom_kills",
                per: None,
                naive: Some(control("memory-hog", "governor-off")),
                ours: of("memory-hog"),
            },
        }],
    },
];
