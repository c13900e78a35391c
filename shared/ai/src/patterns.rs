//! Typed data that a text shows by its form: dates, addresses, amounts. By regular expressions that run in linear time;
//! no model is asked.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A day: `2024-03-12`, `12 March 2024`, `March 12, 2024`, `12.03.2024`, `3/12/2024`. The value is ISO 8601; none where
    /// day and month cannot be told apart.
    Date,
    /// An e-mail address. The value has its domain in lower case.
    Email,
    /// A web address.
    Url,
    /// An amount of money: `€ 1,234.50`, `3 million USD`. The value is `1234.50 EUR`.
    Amount,
    /// A telephone number. The value is its digits.
    Phone,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Date, Self::Email, Self::Url, Self::Amount, Self::Phone];
}

/// A find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// As it stands in the text.
    pub text: String,
    /// In a form that can be compared; none where it is ambiguous.
    pub value: Option<String>,
    /// Where it begins, in characters.
    pub start: usize,
    /// Where it ends, in characters.
    pub end: usize,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH: &str = r"(?<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?";
const CURRENCY: &str =
    r"[$€£¥₹]|US\$|\b(?:USD|EUR|GBP|JPY|CHF|INR|CNY|AUD|CAD|SEK|NOK|DKK|PLN|CZK)\b|\b(?:dollars?|euros?|pounds?)\b";
const NUMBER: &str = r"\d+(?:[.,'\u{a0} ]\d{3})*(?:[.,]\d{1,2})?";

/// A pattern that this crate wrote; a test compiles all of them.
#[allow(clippy::expect_used)]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this file")
}

static DATES: LazyLock<[Regex; 5]> = LazyLock::new(|| {
    [
        pattern(r"\b(?<year>\d{4})-(?<m>\d{2})-(?<day>\d{2})\b"),
        pattern(&format!(r"(?i)\b(?<day>\d{{1,2}})(?:st|nd|rd|th)?\.? (?:of )?{MONTH},? (?<year>\d{{4}})\b")),
        pattern(&format!(r"(?i)\b{MONTH} (?<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?<year>\d{{4}})\b")),
        pattern(r"\b(?<day>\d{1,2})\.\s?(?<m>\d{1,2})\.\s?(?<year>\d{4})\b"),
        pattern(r"\b(?<either>\d{1,2})/(?<other>\d{1,2})/(?<year>\d{4})\b"),
    ]
});
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\b[a-z0-9](?:[a-z0-9._%+-]{0,62}[a-z0-9+_-])?@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}\b")
});
static URL: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?i)\b(?:https?://|www\.)[^\s<>"'`{}|\\^]+"#));
static AMOUNT: LazyLock<Regex> = LazyLock::new(|| {
    let times = "(?: ?(?<times>thousand|million|billion|bn|mn))?";
    pattern(&format!(
        r"(?i)(?<before>{CURRENCY})[\u{{a0}} ]?(?<n>{NUMBER}){times}\b|\b(?<m>{NUMBER}){} ?(?<after>{CURRENCY})",
        times.replace("times", "times_after")
    ))
});
static PHONE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:\+|\b0|\()\d[\d ()/.-]{5,20}\d\b"));

/// What of these kinds the text shows, in its order. No two overlap; at most `at_most`.
pub fn find(text: &str, kinds: &[Kind], at_most: usize) -> Vec<Item> {
    let mut found: Vec<(usize, usize, Kind, Option<String>)> = Vec::new();
    // all kinds are looked for: what is a date is no telephone number, wanted or not
    for kind in [Kind::Url, Kind::Email, Kind::Date, Kind::Amount, Kind::Phone] {
        for (start, end, value) in matches(kind, text) {
            if !found.iter().any(|(a, b, ..)| start < *b && *a < end) {
                found.push((start, end, kind, value));
            }
        }
    }
    found.retain(|(_, _, kind, _)| kinds.contains(kind));
    found.sort_unstable_by_key(|(start, ..)| *start);
    found.truncate(at_most);
    let (mut bytes, mut characters) = (0, 0);
    let mut place = |byte: usize| {
        characters += text[bytes..byte].chars().count();
        bytes = byte;
        characters
    };
    found
        .into_iter()
        .map(|(start, end, kind, value)| Item {
            kind,
            text: text[start..end].to_owned(),
            value,
            start: place(start),
            end: place(end),
        })
        .collect()
}

fn matches(kind: Kind, text: &str) -> Vec<(usize, usize, Option<String>)> {
    let whole = |found: &Captures<'_>| found.get(0).map_or((0, 0), |found| (found.start(), found.end()));
    let each = |pattern: &Regex, value: fn(&Captures<'_>) -> Option<Option<String>>| -> Vec<_> {
        let found = pattern.captures_iter(text);
        found.filter_map(|found| Some((whole(&found).0, whole(&found).1, value(&found)?))).collect()
    };
    match kind {
        Kind::Date => DATES.iter().flat_map(|pattern| each(pattern, date)).collect(),
        Kind::Email => each(&EMAIL, |found| {
            let (name, domain) = found[0].rsplit_once('@')?;
            Some(Some(format!("{name}@{}", domain.to_lowercase())))
        }),
        Kind::Url => each(&URL, |_| Some(None))
            .into_iter()
            .map(|(start, end, _)| {
                let address = without_punctuation(&text[start..end]);
                (start, start + address.len(), Some(address.to_owned()))
            })
            .collect(),
        Kind::Amount => each(&AMOUNT, amount),
        Kind::Phone => each(&PHONE, |found| {
            let digits: String = found[0].chars().filter(char::is_ascii_digit).collect();
            let plus = if found[0].starts_with('+') { "+" } else { "" };
            (8..=15).contains(&digits.len()).then(|| Some(format!("{plus}{digits}")))
        }),
    }
}

/// A date that exists: `Some(None)` where day and month may be either.
fn date(found: &Captures<'_>) -> Option<Option<String>> {
    let number = |name: &str| found.name(name).and_then(|text| text.as_str().parse::<u32>().ok());
    let year = number("year")?;
    let iso = |month: u32, day: u32| {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u32::from(leap),
            1..=12 => 31,
            _ => 0,
        };
        (1..=days).contains(&day).then(|| format!("{year:04}-{month:02}-{day:02}"))
    };
    if let (Some(either), Some(other)) = (number("either"), number("other")) {
        return match (iso(either, other), iso(other, either)) {
            (Some(a), Some(b)) => Some((a == b).then_some(a)),
            (a, b) => a.or(b).map(Some),
        };
    }
    let month = match found.name("month") {
        Some(name) => {
            let short = name.as_str().get(..3)?.to_lowercase();
            u32::try_from(MONTHS.iter().position(|month| *month == short)?).ok()? + 1
        }
        None => number("m")?,
    };
    iso(month, number("day")?).map(Some)
}

fn amount(found: &Captures<'_>) -> Option<Option<String>> {
    let group = |name: &str| found.name(name).map(|text| text.as_str());
    let currency = match group("before").or(group("after"))?.to_lowercase().as_str() {
        "$" | "us$" | "dollar" | "dollars" => "USD".to_owned(),
        "€" | "euro" | "euros" => "EUR".to_owned(),
        "£" | "pound" | "pounds" => "GBP".to_owned(),
        "¥" => "JPY".to_owned(),
        "₹" => "INR".to_owned(),
        code => code.to_uppercase(),
    };
    let zeros = match group("times").or(group("times_after")).unwrap_or_default().to_lowercase().as_str() {
        "thousand" => 3,
        "million" | "mn" => 6,
        "billion" | "bn" => 9,
        _ => 0,
    };
    let number = group("n").or(group("m"))?;
    // the last mark with one or two digits behind it parts the fraction
    let (whole, fraction) = match number.rfind(['.', ',']) {
        Some(at) if number.len() - at <= 3 => (&number[..at], &number[at + 1..]),
        _ => (number, ""),
    };
    let mut digits: String = whole.chars().filter(char::is_ascii_digit).collect();
    let mut fraction = fraction.to_owned();
    for _ in 0..zeros {
        digits.push(if fraction.is_empty() { '0' } else { fraction.remove(0) });
    }
    let fraction = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
    Some(Some(format!("{digits}{fraction} {currency}")))
}

/// An address without the marks of the sentence around it.
fn without_punctuation(address: &str) -> &str {
    let mut address = address;
    loop {
        let shorter = address.trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_']);
        let closes = |open: char, close: char| {
            shorter.ends_with(close) && shorter.matches(close).count() > shorter.matches(open).count()
        };
        let shorter = match closes('(', ')') || closes('[', ']') {
            true => &shorter[..shorter.len() - 1],
            false => shorter,
        };
        if shorter.len() == address.len() {
            return address;
        }
        address = shorter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(kind: Kind, text: &str) -> Vec<String> {
        find(text, &[kind], 100).into_iter().map(|item| item.value.unwrap_or(item.text)).collect()
    }

    #[test]
    fn dates() {
        let text = "On 2024-02-29, 12 March 2024, the 1st of May 1999, Sept. 3, 2021, 31.12.2023 and 12/25/2020; not on \
            2023-02-29, 45 May 2020 or 3.14.2020, and who knows when 03/04/2021 is.";
        let expected =
            ["2024-02-29", "2024-03-12", "1999-05-01", "2021-09-03", "2023-12-31", "2020-12-25", "03/04/2021"];
        assert_eq!(values(Kind::Date, text), expected);
    }

    #[test]
    fn addresses() {
        let text =
            "Mail Jo.Doe+x@Mail.Example.ORG, see https://example.org/a_(b)?q=1#c. (Or www.example.com/x.) Not a@b, @c.";
        assert_eq!(values(Kind::Email, text), ["Jo.Doe+x@mail.example.org"]);
        assert_eq!(values(Kind::Url, text), ["https://example.org/a_(b)?q=1#c", "www.example.com/x"]);
    }

    #[test]
    fn amounts() {
        let text =
            "It costs $5, €1.234,50, 1,234.5 EUR, US$ 3.25 million or 20 pounds; version 1.2 of 300 files is free.";
        let expected = ["5 USD", "1234.50 EUR", "1234.5 EUR", "3250000 USD", "20 GBP"];
        assert_eq!(values(Kind::Amount, text), expected);
    }

    #[test]
    fn telephone_numbers() {
        let text = "Call +49 (30) 1234-5678 or 030 1234567, not 2024-03-12, 12345 or 0.5.";
        assert_eq!(values(Kind::Phone, text), ["+493012345678", "0301234567"]);
    }

    #[test]
    fn places_are_characters_and_the_count_is_bounded() {
        let text = "Grüße 🦀 an a@b.de und c@d.de";
        let items = find(text, &Kind::ALL, 1);
        assert_eq!((items.len(), items[0].start, items[0].end), (1, 11, 17));
        let characters: Vec<char> = text.chars().collect();
        assert_eq!(characters[11..17].iter().collect::<String>(), "a@b.de");
    }

    #[test]
    fn a_hostile_text_takes_no_longer_than_its_length() {
        let begun = std::time::Instant::now();
        for unit in ["0 ", "1.", "a@a.", "((((", "€", "+1-"] {
            find(&unit.repeat(50_000), &Kind::ALL, 10);
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
