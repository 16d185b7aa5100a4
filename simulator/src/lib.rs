//! Load scenarios on goose: a million sessions with a due time each, and a truth checker.
