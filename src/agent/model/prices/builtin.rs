//! The prices that are built in, in micro-dollars per million tokens (so `3_000_000` is $3).
//!
//! Only standard prices for text, of models that the sources below name. Prices change: `[prices]` of
//! `octo.toml` overrides every row. Looked up on 2026-11-21:
//!
//! * **Anthropic**: platform.claude.com/docs/en/about-claude/pricing (its table as stored that day), and the
//!   release notes of kurofune/claudit 1.9.2 (checked against that page on 2026-10-24) for Haiku 5.5's two
//!   prices, for Opus 5.5 and for Sonnet 5.5's cheaper cache. Cache writes are those for five minutes, the only
//!   ones that Octo asks for.
//! * **OpenAI**: developers.openai.com/api/docs/pricing, which could not be read itself, so every row has a
//!   second source: for GPT-6.1 Sol the release notes of amine123max/Codex-Manager 0.4.7 and of
//!   KZCFG/AILSA-SubSwitch 1.0.0 (page checked on 2026-10-01); for GPT-6 Astra discussion 39633 of
//!   BerriAI/litellm; for GPT-6 Sol and Luna merefield/codexometer 0.18.4 (2026-09-22); for GPT-6.1 Terra and
//!   GPT-5.6 Terra and Luna TheKrush/PromptFuel 1.0.24 and 1.0.19; for all others the price table of LiteLLM as
//!   of 2026-07-24.
//! * **Gemini**: ai.google.dev/gemini-api/docs/pricing, as transcribed in api-evangelist/deepmind on 2026-10-07;
//!   cache reads, and the output of 2.5 Pro and 2.5 Flash, from LiteLLM's table as of 2026-07-24.
//!
//! What could not be verified is not here: the price of a long prompt where the sources say only that there is
//! one ([`Over::Unknown`]: the cost of such a prompt is unknown), what GPT-6.1 Sol and GPT-5.6 Terra and Luna take for
//! cache writes (billed as input), GPT-5.6 Sol (a promotion that may have ended), Gemini 3.6 to 3.8 Flash (half price until
//! 2026-12-31, twice that afterwards), models that are retired, and those for audio and images.

use super::{Over, Price, Rates};

/// One row; the name is `provider/model`, and a trailing `*` stands for any end.
pub(super) type Row = (&'static str, Price);

const fn rates(input: u64, cached_read: u64, cached_write: u64, output: u64) -> Rates {
    Rates { input, cached_read, cached_write, output }
}

const fn flat(input: u64, cached_read: u64, cached_write: u64, output: u64) -> Price {
    Price { rates: rates(input, cached_read, cached_write, output), over: Over::Same }
}

const fn tiered(below: Rates, prompt: u64, above: Rates) -> Price {
    Price { rates: below, over: Over::Rates { prompt, rates: above } }
}

const fn short(below: Rates) -> Price {
    Price { rates: below, over: Over::Unknown { prompt: 272_000 } }
}

const OPUS: Price = flat(5_000_000, 500_000, 6_250_000, 25_000_000);
const SONNET: Price = flat(3_000_000, 300_000, 3_750_000, 15_000_000);
const FABLE: Price = flat(10_000_000, 1_000_000, 12_500_000, 50_000_000);
const FABLE_5_1: Price = flat(10_000_000, 250_000, 12_500_000, 50_000_000);
const GPT_5: Price = flat(1_250_000, 125_000, 1_250_000, 10_000_000);
const GPT_5_2: Price = flat(1_750_000, 175_000, 1_750_000, 14_000_000);
const GEMINI_PRO: Price =
    tiered(rates(2_000_000, 200_000, 2_000_000, 12_000_000), 200_000, rates(4_000_000, 400_000, 4_000_000, 18_000_000));

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    ("anthropic/claude-fable-5-1", FABLE_5_1),
    ("anthropic/claude-mythos-5-1", FABLE_5_1),
    ("anthropic/claude-fable-5", FABLE),
    ("anthropic/claude-mythos-5", FABLE),
    ("anthropic/claude-opus-5-5", flat(4_000_000, 200_000, 5_000_000, 20_000_000)),
    ("anthropic/claude-opus-5", OPUS),
    ("anthropic/claude-opus-4-8", OPUS),
    ("anthropic/claude-opus-4-7", OPUS),
    ("anthropic/claude-opus-4-6", OPUS),
    ("anthropic/claude-opus-4-5", OPUS),
    ("anthropic/claude-opus-4-1", flat(15_000_000, 1_500_000, 18_750_000, 75_000_000)),
    ("anthropic/claude-sonnet-5-5", flat(2_000_000, 100_000, 2_500_000, 10_000_000)),
    ("anthropic/claude-sonnet-5", flat(2_000_000, 200_000, 2_500_000, 10_000_000)),
    ("anthropic/claude-sonnet-4-6", SONNET),
    ("anthropic/claude-sonnet-4-5", SONNET),
    ("anthropic/claude-sonnet-4", SONNET),
    ("anthropic/claude-sonnet-4-0", SONNET),
    ("anthropic/claude-haiku-5-5",
        tiered(rates(100_000, 10_000, 125_000, 500_000), 100_000, rates(500_000, 50_000, 625_000, 2_500_000))),
    ("anthropic/claude-haiku-4-5", flat(1_000_000, 100_000, 1_250_000, 5_000_000)),

    ("openai/gpt-6-astra", tiered(rates(10_000_000, 1_000_000, 12_500_000, 50_000_000), 272_000,
        rates(20_000_000, 2_000_000, 25_000_000, 75_000_000))),
    ("openai/gpt-6.1-sol", tiered(rates(2_000_000, 100_000, 2_000_000, 10_000_000), 272_000,
        rates(4_000_000, 200_000, 4_000_000, 15_000_000))),
    ("openai/gpt-6.1-terra", short(rates(1_000_000, 50_000, 1_250_000, 5_000_000))),
    ("openai/gpt-6-sol", short(rates(2_000_000, 200_000, 2_500_000, 10_000_000))),
    ("openai/gpt-6-luna", short(rates(100_000, 10_000, 125_000, 500_000))),
    ("openai/gpt-5.6-terra", short(rates(2_000_000, 200_000, 2_000_000, 12_000_000))),
    ("openai/gpt-5.6-luna", short(rates(200_000, 20_000, 200_000, 1_200_000))),
    ("openai/gpt-5.5", tiered(rates(5_000_000, 500_000, 5_000_000, 30_000_000), 272_000,
        rates(10_000_000, 1_000_000, 10_000_000, 45_000_000))),
    ("openai/gpt-5.4", tiered(rates(2_500_000, 250_000, 2_500_000, 15_000_000), 272_000,
        rates(5_000_000, 500_000, 5_000_000, 22_500_000))),
    ("openai/gpt-5.4-mini", flat(750_000, 75_000, 750_000, 4_500_000)),
    ("openai/gpt-5.4-nano", flat(200_000, 20_000, 200_000, 1_250_000)),
    ("openai/gpt-5.3-codex", GPT_5_2),
    ("openai/gpt-5.2-codex", GPT_5_2),
    ("openai/gpt-5.2", GPT_5_2),
    ("openai/gpt-5.1", GPT_5),
    ("openai/gpt-5", GPT_5),
    ("openai/gpt-5-mini", flat(250_000, 25_000, 250_000, 2_000_000)),
    ("openai/gpt-5-nano", flat(50_000, 5_000, 50_000, 400_000)),
    ("openai/gpt-4.1", flat(2_000_000, 500_000, 2_000_000, 8_000_000)),
    ("openai/gpt-4.1-mini", flat(400_000, 100_000, 400_000, 1_600_000)),
    ("openai/gpt-4.1-nano", flat(100_000, 25_000, 100_000, 400_000)),
    ("openai/gpt-4o", flat(2_500_000, 1_250_000, 2_500_000, 10_000_000)),
    ("openai/gpt-4o-mini", flat(150_000, 75_000, 150_000, 600_000)),
    ("openai/o3", flat(2_000_000, 500_000, 2_000_000, 8_000_000)),
    ("openai/o4-mini", flat(1_100_000, 275_000, 1_100_000, 4_400_000)),

    ("gemini/gemini-3.1-pro-preview", GEMINI_PRO),
    ("gemini/gemini-3.1-pro-preview-customtools", GEMINI_PRO),
    ("gemini/gemini-3.5-flash", flat(1_500_000, 150_000, 1_500_000, 9_000_000)),
    ("gemini/gemini-3.5-flash-lite", flat(300_000, 30_000, 300_000, 2_500_000)),
    ("gemini/gemini-2.5-pro", tiered(rates(1_250_000, 125_000, 1_250_000, 10_000_000), 200_000,
        rates(2_500_000, 250_000, 2_500_000, 15_000_000))),
    ("gemini/gemini-2.5-flash", flat(300_000, 30_000, 300_000, 2_500_000)),
    ("gemini/gemini-2.5-flash-lite", flat(100_000, 10_000, 100_000, 400_000)),

    // What runs on one's own machine, and what is no model at all, costs nothing.
    ("ollama/*", flat(0, 0, 0, 0)),
    ("demo/*", flat(0, 0, 0, 0)),
];
