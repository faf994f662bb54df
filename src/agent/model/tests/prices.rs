use proptest::prelude::*;
use serde_json::{Value, json};

use crate::agent::model::prices::{Prices, Usd};
use crate::agent::model::{ModelName, Tokens};

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn tokens(input: u64, cached_read: u64, cached_write: u64, output: u64) -> Tokens {
    Tokens { input, cached_read, cached_write, output, ..Tokens::default() }
}

fn cost(settings: &Value, model: &str, tokens: &Tokens) -> Option<String> {
    let (prices, warnings) = Prices::new(settings);
    assert_eq!(warnings, Vec::<String>::new());
    prices.cost(&name(model), tokens).map(|usd| usd.to_string())
}

#[test]
fn cached_tokens_have_prices_of_their_own() {
    let used = tokens(1_000, 100_000, 10_000, 500);
    // 1,000 x $3 + 100,000 x $0.30 + 10,000 x $3.75 + 500 x $15, per million.
    assert_eq!(cost(&Value::Null, "anthropic/claude-sonnet-4-5", &used).unwrap(), "0.078");
    let one = tokens(0, 1, 0, 0);
    assert_eq!(cost(&Value::Null, "openai/gpt-4.1-nano", &one).unwrap(), "0.000000025");
}

#[test]
fn thoughts_are_not_paid_twice() {
    let used = Tokens { reasoning: 400, ..tokens(0, 0, 0, 500) };
    assert_eq!(cost(&Value::Null, "anthropic/claude-sonnet-4-5", &used).unwrap(), "0.0075");
}

#[test]
fn an_unknown_price_is_not_nothing() {
    assert_eq!(cost(&Value::Null, "openai/never-heard-of", &tokens(1, 0, 0, 1)), None);
    assert_eq!(cost(&Value::Null, "ollama/llama3:8b", &tokens(1, 0, 0, 1)).unwrap(), "0.00");
    assert_eq!(cost(&Value::Null, "demo/tour", &tokens(1, 0, 0, 1)).unwrap(), "0.00");
}

#[test]
fn dated_names_cost_what_their_model_costs_and_other_ends_do_not() {
    let used = tokens(1_000_000, 0, 0, 0);
    assert_eq!(cost(&Value::Null, "anthropic/claude-sonnet-4-5-20250929", &used).unwrap(), "3.00");
    assert_eq!(cost(&Value::Null, "openai/gpt-5-2025-08-07", &used).unwrap(), "1.25");
    assert_eq!(cost(&Value::Null, "openai/gpt-5-mini", &used).unwrap(), "0.25");
    assert_eq!(cost(&Value::Null, "openai/gpt-5-pro", &used), None);
    assert_eq!(cost(&Value::Null, "anthropic/claude-opus-4-5", &used).unwrap(), "5.00");
}

#[test]
fn a_long_prompt_has_its_own_price_for_the_whole_call() {
    let below = tokens(150_000, 50_000, 0, 1_000);
    let above = tokens(150_001, 50_000, 0, 1_000);
    assert_eq!(cost(&Value::Null, "gemini/gemini-2.5-pro", &below).unwrap(), "0.20375");
    assert_eq!(cost(&Value::Null, "gemini/gemini-2.5-pro", &above).unwrap(), "0.4025025");
    let unknown = "openai/gpt-6-sol";
    assert_eq!(cost(&Value::Null, unknown, &tokens(272_000, 0, 0, 0)).unwrap(), "0.544");
    assert_eq!(cost(&Value::Null, unknown, &tokens(272_001, 0, 0, 0)), None);
}

#[test]
fn settings_come_before_what_is_built_in() {
    let settings = json!({
        "openai/gpt-5": {"input": 100, "output": "200.5"},
        "openai/*": {"input": 1, "output": 1},
        "openai/llama-*": {"input": 0.000001, "cached_read": 0, "cached_write": 0, "output": 0},
        "openai/big": {"input": 1, "output": 2, "over": {"prompt": 10, "input": 3, "output": 4}},
    });
    let million = tokens(1_000_000, 1_000_000, 1_000_000, 1_000_000);
    // What is left out costs as much as input.
    assert_eq!(cost(&settings, "openai/gpt-5", &million).unwrap(), "500.50");
    assert_eq!(cost(&settings, "openai/gpt-5-2025-08-07", &million).unwrap(), "500.50");
    assert_eq!(cost(&settings, "openai/gpt-4o", &million).unwrap(), "4.00");
    assert_eq!(cost(&settings, "openai/llama-3", &tokens(1, 0, 0, 0)).unwrap(), "0.000000000001");
    assert_eq!(cost(&settings, "openai/big", &tokens(10, 0, 0, 1)).unwrap(), "0.000012");
    assert_eq!(cost(&settings, "openai/big", &tokens(10, 1, 0, 1)).unwrap(), "0.000037");
    assert_eq!(cost(&settings, "anthropic/claude-haiku-4-5", &tokens(0, 0, 0, 1_000_000)).unwrap(), "5.00");
}

#[test]
fn wrong_settings_are_named_and_left_out() {
    let settings = json!({
        "openai/a": {"input": 1},
        "openai/b": {"input": 1, "output": 1, "ouput": 1},
        "openai/c": {"input": -1, "output": 1},
        "openai/d": {"input": 0.0000001, "output": 1},
        "openai/e": 5,
        "openai/f": {"input": 1, "output": true},
        "openai/g": {"input": 1, "output": 1, "over": {"input": 1, "output": 1}},
        "openai/h": {"input": 1, "output": 1, "over": {"prompt": 1, "input": 1}},
        "nobody/x": {"input": 1, "output": 1},
        "openai/*x": {"input": 1, "output": 1},
        "gpt-5": {"input": 1, "output": 1},
        "openai/good": {"input": 1, "output": 1},
    });
    let (prices, warnings) = Prices::new(&settings);
    let expected = [
        ("openai/a", "`output` is missing"),
        ("openai/b", "there is no `ouput`; there are: input, cached_read, cached_write, output, over"),
        ("openai/c", "`input`: `-1`"),
        ("openai/d", "more than 6 decimals"),
        ("openai/e", "no table"),
        ("openai/f", "`output` is no number"),
        ("openai/g", "`over.prompt`"),
        ("openai/h", "over: `output` is missing"),
        ("nobody/x", "there is no provider `nobody`"),
        ("openai/*x", "only at the end"),
        ("gpt-5", "provider/model"),
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, (name, why)) in warnings.iter().zip(expected) {
        assert!(warning.contains(&format!("[prices.\"{name}\"]")) && warning.contains(why), "{warning}");
    }
    assert!(prices.of(&name("openai/good")).is_some());
    assert!(prices.of(&name("openai/a")).is_none());
    assert_eq!(Prices::new(&json!([])).1.len(), 1);
}

#[test]
fn costs_stay_at_the_end_of_the_numbers() {
    let used = tokens(u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    let prices = Prices::builtin();
    assert_eq!(prices.cost(&name("anthropic/claude-opus-4-5"), &used), Some(Usd::MAX));
    assert_eq!(Usd::MAX.checked_add(Usd::from_pico(1)), None);
    assert_eq!(Usd::MAX.saturating_add(Usd::MAX), Usd::MAX);
}

#[test]
fn amounts_are_read_and_shown_without_rounding() {
    for (text, shown) in [("1", "1.00"), ("0.25", "0.25"), ("1e-6", "0.000001"), (".5", "0.50"), ("2.50e1", "25.00")] {
        assert_eq!(text.parse::<Usd>().unwrap().to_string(), shown);
    }
    for text in ["", ".", "-1", "1,5", "1e", "0.0000000000001", "1e99", "1e99999999999", "18446745", "NaN", "1e-99"] {
        assert!(text.parse::<Usd>().is_err(), "{text}");
    }
    assert_eq!(serde_json::to_string(&Usd::from_pico(1_500_000)).unwrap(), "\"0.0000015\"");
    assert!((Usd::from_pico(1_234_500_000_000).to_f64() - 1.2345).abs() < 1e-12);
}

proptest! {
    #[test]
    fn every_amount_is_read_back(pico: u64) {
        let usd = Usd::from_pico(pico);
        prop_assert_eq!(usd.to_string().parse::<Usd>(), Ok(usd));
        let json = serde_json::to_string(&usd).unwrap();
        prop_assert_eq!(serde_json::from_str::<Usd>(&json).unwrap(), usd);
    }

    /// The cost of many calls is their sum, to the last millionth of a millionth.
    #[test]
    fn sums_are_exact(calls in proptest::collection::vec((0_u64..1_000_000, 0_u64..1_000_000), 1..50)) {
        let prices = Prices::builtin();
        let model = name("anthropic/claude-haiku-4-5");
        let sum = calls.iter().fold(Usd::ZERO, |sum, (input, output)| {
            sum.checked_add(prices.cost(&model, &tokens(*input, 0, 0, *output)).unwrap()).unwrap()
        });
        let (input, output) = calls.iter().fold((0, 0), |(i, o), (a, b)| (i + a, o + b));
        prop_assert_eq!(sum.pico(), input * 1_000_000 + output * 5_000_000);
    }

    #[test]
    fn no_settings_make_it_fall(key in ".{0,20}", text in ".{0,20}", number: f64) {
        let _ = Prices::new(&json!({"openai/x": {(key): number, "input": text.clone()}, (text): number}));
    }
}
