//! Lists of places as text, a network to a line:
//!
//! ```text
//! # cidr,country,carrier,region,city,area[,domain]
//! 10.1.0.0/16,CN,1,31,2,7,3
//! 2001:db8::/32,DE,,,,
//! ```
//! | column | is | left out |
//! |---|---|---|
//! | cidr | a network of either family, no bit set behind its prefix | - |
//! | country | a two-letter code, or a number from 0 to 255 | unknown |
//! | carrier; region, city | 0 to 15; 0 to 63 | unknown |
//! | area | 0 to 65535 | the address's first 16 bits (IPv6: its first 32, folded) |
//! | domain | the id of a `[[domain]]` | as the configuration says |
//!
//! Spaces around values do not count, nor do empty lines and those that begin with `#` or, as a head, with `cidr,`. A
//! network that stands there twice must be in one place. No quotes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use cache_core::peer_id::Location;
use cache_core::proto::route::cidr::Cidr;
use cache_core::proto::route::geo::Place;
use cache_core::units::DomainId;

use crate::route::country::Country;

/// Most complaints shown: a screen.
const COMPLAINTS_MAX: usize = 20;

/// The networks of `file`; all that is wrong with it, line by line, up to [`COMPLAINTS_MAX`].
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<(Cidr, Place)>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}: cannot be read as text", file.display()))?;
    let (networks, complaints) = parse(&text);
    if complaints.is_empty() {
        return Ok(networks);
    }
    let shown = complaints.iter().take(COMPLAINTS_MAX);
    let mut said: Vec<String> = shown.map(|(line, why)| format!("{}:{line}: {why}", file.display())).collect();
    if complaints.len() > COMPLAINTS_MAX {
        said.push(format!("and {} more", complaints.len() - COMPLAINTS_MAX));
    }
    bail!("{}", said.join("\n"))
}

/// What is wrong, by line from 1.
type Complaints = Vec<(usize, String)>;

/// Networks, and what is wrong.
fn parse(text: &str) -> (Vec<(Cidr, Place)>, Complaints) {
    let (mut networks, mut complaints) = (BTreeMap::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let (line, number) = (line.trim(), at + 1);
        if line.is_empty() || line.starts_with('#') || line.starts_with("cidr,") {
            continue;
        }
        match entry(line) {
            Ok((cidr, place)) => match networks.insert(cidr, (number, place)) {
                Some((before, other)) if other != place => {
                    complaints.push((number, format!("{cidr} is in another place on line {before}; keep one of them")));
                }
                _ => {}
            },
            Err(why) => complaints.push((number, why)),
        }
    }
    (networks.into_iter().map(|(cidr, (_, place))| (cidr, place)).collect(), complaints)
}

fn entry(line: &str) -> Result<(Cidr, Place), String> {
    let columns: Vec<&str> = line.split(',').map(str::trim).collect();
    let (cidr, country, carrier, region, city, area, domain) = match columns[..] {
        [cidr, country, carrier, region, city, area] => (cidr, country, carrier, region, city, area, ""),
        [cidr, country, carrier, region, city, area, domain] => (cidr, country, carrier, region, city, area, domain),
        _ => return Err(format!("has {} values; write cidr,country,carrier,region,city,area[,domain]", columns.len())),
    };
    let location = Location {
        country: if country.is_empty() { 0 } else { named("country", country, country.parse::<Country>())?.0 },
        carrier: number("carrier", carrier, 15)?.unwrap_or(0) as u8,
        region: number("region", region, 63)?.unwrap_or(0) as u8,
        city: number("city", city, 63)?.unwrap_or(0) as u8,
        area: 0,
    };
    let area = number("area", area, u16::MAX)?;
    let domain = number("domain", domain, u16::MAX)?.map(DomainId);
    Ok((cidr.parse::<Cidr>().map_err(|error| error.to_string())?, Place { location, area, domain }))
}

fn number(column: &str, text: &str, max: u16) -> Result<Option<u16>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|number| *number <= max);
    number.map(Some).ok_or_else(|| format!("{column} is {text:?}; give a number from 0 to {max}, or nothing"))
}

fn named<T, E: std::fmt::Display>(column: &str, text: &str, read: Result<T, E>) -> Result<T, String> {
    read.map_err(|error| format!("{column} is {text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        parse(text).1.into_iter().map(|(line, why)| format!("{line}: {why}")).collect()
    }

    #[test]
    fn a_line_says_where_a_network_is() {
        let text = "cidr,country,carrier,region,city,area,domain\n# ours\n\n 10.1.0.0/16 , cn , 1,31,2,7,3\r\n\
                    2001:db8::/32,9,,,,\n10.1.0.0/16,CN,1,31,2,7,3\n";
        let (networks, complaints) = parse(text);
        assert_eq!(complaints, []);
        let cn = Country::from_code("CN").expect("a code").0;
        let ours = Location { country: cn, carrier: 1, region: 31, city: 2, area: 0 };
        let nine = Location { country: 9, ..Location::default() };
        assert_eq!(
            networks,
            [
                ("10.1.0.0/16", Place { location: ours, area: Some(7), domain: Some(DomainId(3)) }),
                ("2001:db8::/32", Place { location: nine, ..Place::default() }),
            ]
            .map(|(text, place)| (text.parse().expect("a network"), place))
        );
    }

    #[test]
    fn each_bad_line_is_told_with_its_number_and_what_to_write() {
        let text = "10.0.0.1/8,CN,,,,\n10.0.0.0/8,China,,,,\n10.0.0.0/8,CN,16,,,\n10.0.0.0/8,CN,,64,,\n10.0.0.0/8,CN,,,-1,\n\
                    10.0.0.0/8,CN,,,,65536\n10.0.0.0/8,CN,,,,,x\n10.0.0.0/8,CN\n10.0.0.0/8,,,,,\n10.0.0.0/8,CN,,,,\n";
        let said = complaints(text);
        let begin = [
            "1: \"10.0.0.1/8\" is no network",
            "2: country is \"China\": a country is a two-letter code",
            "3: carrier is \"16\"; give a number from 0 to 15",
            "4: region is \"64\"; give a number from 0 to 63",
            "5: city is \"-1\"; give a number from 0 to 63",
            "6: area is \"65536\"; give a number from 0 to 65535",
            "7: domain is \"x\"; give a number from 0 to 65535",
            "8: has 2 values; write cidr,country,carrier,region,city,area[,domain]",
            "10: 10.0.0.0/8 is in another place on line 9",
        ];
        assert_eq!(said.len(), begin.len(), "{said:?}");
        said.iter().zip(begin).for_each(|(said, begin)| assert!(said.starts_with(begin), "{said}"));
    }

    #[test]
    fn a_screen_of_complaints_is_shown_and_the_rest_counted() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "nonsense\n".repeat(COMPLAINTS_MAX + 7)).expect("written");
        let said = read(file.path()).expect_err("nonsense").to_string();
        assert_eq!(said.lines().count(), COMPLAINTS_MAX + 1);
        assert!(said.ends_with("and 7 more"), "{said}");
    }
}
