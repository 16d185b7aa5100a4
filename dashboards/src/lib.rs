//! Checks of the dashboards in this folder live in `tests/`; the library itself is empty.
