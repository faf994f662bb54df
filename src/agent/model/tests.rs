//! Tests of the model layer; what a provider would say is said by small servers in [`server`].

mod anthropic;
mod demo;
mod openai;
mod others;
mod prices;
mod retry;
mod server;
mod types;
