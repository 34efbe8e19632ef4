//! Country codes as the eight bits that a PeerID has for them.
//!
//! ISO 3166-1's own numbers go to 894. So a country is its place, from 1, in the alphabetical list of its two-letter
//! codes; 250 is Kosovo (XK, which databases use and the standard does not have), 0 is unknown.

use serde::Deserialize;
use serde::de::Error;

/// The 249 two-letter codes of ISO 3166-1, in order. Their places are in PeerIDs: add new ones behind [`KOSOVO`].
const CODES: &str = "\
ADAEAFAGAIALAMAOAQARASATAUAWAXAZBABBBDBEBFBGBHBIBJBLBMBNBOBQBRBSBTBVBWBYBZCACCCDCFCGCHCICKCLCMCNCOCRCUCVCWCXCYCZDEDJDK\
DMDODZECEEEGEHERESETFIFJFKFMFOFRGAGBGDGEGFGGGHGIGLGMGNGPGQGRGSGTGUGWGYHKHMHNHRHTHUIDIEILIMINIOIQIRISITJEJMJOJPKEKGKHKI\
KMKNKPKRKWKYKZLALBLCLILKLRLSLTLULVLYMAMCMDMEMFMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZNANCNENFNGNINLNONPNRNUNZOMPAPEPFPGPH\
PKPLPMPNPRPSPTPWPYQARERORSRURWSASBSCSDSESGSHSISJSKSLSMSNSOSRSSSTSVSXSYSZTCTDTFTGTHTJTKTLTMTNTOTRTTTVTWTZUAUGUMUSUYUZVA\
VCVEVGVIVNVUWFWSYEYTZAZMZW";

/// Kosovo, behind the 249.
const KOSOVO: u8 = 250;

const _: () = assert!(CODES.len() == 2 * 249, "249 codes of two letters");

/// A country as a PeerID has it; in a configuration a two-letter code or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Country(pub u8);

impl Country {
    /// The country with this two-letter code, whatever its case; `None` when there is none.
    pub fn from_code(code: &str) -> Option<Country> {
        if code.eq_ignore_ascii_case("XK") {
            return Some(Country(KOSOVO));
        }
        let place = CODES.as_bytes().chunks_exact(2).position(|known| known.eq_ignore_ascii_case(code.as_bytes()))?;
        u8::try_from(place + 1).ok().map(Country)
    }
}

/// A text that is neither a two-letter code of ISO 3166-1 nor a number from 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a country is a two-letter code such as \"CN\", or a number from 0 to 255")]
pub struct NoCountry;

impl std::str::FromStr for Country {
    type Err = NoCountry;
    fn from_str(text: &str) -> Result<Country, NoCountry> {
        let number = || text.parse().ok().map(Country);
        number().or_else(|| Country::from_code(text)).ok_or(NoCountry)
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Country, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a country is a two-letter code such as \"CN\", or a number from 0 to 255")]
        enum Written {
            Code(String),
            Number(u8),
        }
        match Written::deserialize(from)? {
            Written::Number(number) => Ok(Country(number)),
            Written::Code(code) => Country::from_code(&code)
                .ok_or_else(|| D::Error::custom(format!("\"{code}\" is no two-letter country code of ISO 3166-1"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_its_place_in_the_alphabet() {
        let number = |code| Country::from_code(code).map(|country| country.0);
        assert_eq!(number("AD"), Some(1));
        assert_eq!(number("cn"), number("CN"));
        assert_eq!((number("ZW"), number("XK")), (Some(249), Some(250)));
        assert_eq!((number("ZZ"), number(""), number("CHN"), number("DA")), (None, None, None, None));
    }

    #[test]
    fn the_codes_are_in_order_and_none_is_there_twice() {
        let codes: Vec<&[u8]> = CODES.as_bytes().chunks_exact(2).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
