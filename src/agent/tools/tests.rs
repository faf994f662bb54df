//! Tests of the tools, through the door that the agents' loop uses.
