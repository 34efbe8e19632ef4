//! The capacity planner: what hardware an audience needs.
