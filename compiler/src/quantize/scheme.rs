//! Names of the forms that a weight can be quantised to, and the rules that say which weight gets which.

use std::fmt;
use std::str::FromStr;

use fuseline_ir::ops::quant::Mode;

/// A form of weights in few bits that the target's kernels read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// How elements and scales stand for numbers.
    pub mode: Mode,
    /// Bits of an element.
    pub bits: usize,
    /// Neighbours along the last axis that share a scale.
    pub group: usize,
}

impl Scheme {
    /// Every scheme.
    pub fn all() -> impl Iterator<Item = Scheme> {
        let affine = [2, 3, 4, 5, 6, 8].into_iter().flat_map(|bits| {
            [32, 64, 128].map(|group| Scheme {
                mode: Mode::Affine,
                bits,
                group,
            })
        });
        let floats = [
            (Mode::MxFp4, 4, 32),
            (Mode::MxFp8, 8, 32),
            (Mode::NvFp4, 4, 16),
        ];
        affine.chain(floats.map(|(mode, bits, group)| Scheme { mode, bits, group }))
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            Mode::Affine => write!(f, "affine{}g{}", self.bits, self.group),
            mode => f.write_str(mode.name()),
        }
    }
}

impl FromStr for Scheme {
    type Err = String;

    /// `affine4g64` and the like, `mxfp4`, `mxfp8`, `nvfp4`.
    fn from_str(text: &str) -> Result<Scheme, String> {
        Scheme::all()
            .find(|scheme| scheme.to_string() == text)
            .ok_or_else(|| {
                format!(
                    "`{text}` is no quantisation scheme; there are affineBgG with B bits (2, 3, 4, 5, 6, 8) in groups of G (32, 64, 128), such as affine4g64, \
                     and mxfp4, mxfp8, nvfp4"
                )
            })
    }
}

/// Which weights get which scheme: a text with a line `PATTERN = SCHEME` or `PATTERN = none` for each rule, `#` before a comment. The last rule that
/// matches a weight decides.
///
/// A pattern is compared with the weight's name (`model.layers.0.mlp.up_proj.weight`) and with the path of its module (the same without the last part);
/// it fits if either is equal. `*` stands for any characters within a part, `**` for any characters, dots among them, `?` for one character that is no dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// Counted from 1.
    line: usize,
    pattern: String,
    scheme: Option<Scheme>,
}

/// What is wrong with the text of a [`Map`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct MapError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for Map {
    type Err = MapError;

    fn from_str(text: &str) -> Result<Map, MapError> {
        let mut rules = Vec::new();
        for (at, full) in text.lines().enumerate() {
            let line = at + 1;
            let fail = |reason: String| MapError { line, reason };
            let rule = full.split('#').next().unwrap_or_default().trim();
            if rule.is_empty() {
                continue;
            }
            let Some((pattern, scheme)) = rule.split_once('=') else {
                return Err(fail(format!(
                    "expected `PATTERN = SCHEME` or `PATTERN = none`, not `{rule}`"
                )));
            };
            let (pattern, scheme) = (pattern.trim(), scheme.trim());
            if pattern.is_empty() || pattern.contains(char::is_whitespace) {
                return Err(fail(format!(
                    "`{pattern}` is no pattern: it names one module path, without spaces"
                )));
            }
            rules.push(Rule {
                line,
                pattern: pattern.to_owned(),
                scheme: match scheme {
                    "none" => None,
                    name => Some(
                        name.parse()
                            .map_err(|reason| fail(format!("{reason}, and none")))?,
                    ),
                },
            });
        }
        Ok(Map { rules })
    }
}

impl Map {
    /// What the rules say of a weight with these names: nothing where no rule matches.
    pub fn get(&self, names: &[String]) -> Option<Option<Scheme>> {
        let rule = self.rules.iter().rev().find(|rule| rule.fits(names))?;
        Some(rule.scheme)
    }

    /// The first rule that fits none of the weights, each with its names: a mistake in the pattern.
    pub fn unused<'n>(
        &self,
        weights: impl Iterator<Item = &'n [String]> + Clone,
    ) -> Option<MapError> {
        let rule = self
            .rules
            .iter()
            .find(|rule| !weights.clone().any(|names| rule.fits(names)))?;
        Some(MapError {
            line: rule.line,
            reason: format!("`{}` fits no weight of the model", rule.pattern),
        })
    }
}

impl Rule {
    fn fits(&self, names: &[String]) -> bool {
        names.iter().any(|name| {
            let module = name.rsplit_once('.').map_or("", |(module, _)| module);
            fits(self.pattern.as_bytes(), name.as_bytes())
                || fits(self.pattern.as_bytes(), module.as_bytes())
        })
    }
}

/// Whether a pattern fits all of a text. Takes time of their lengths' product at most: for each prefix of the pattern, where in the text it may end.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        let (any, dots) = (first == b'*', after.first() == Some(&b'*'));
        rest = if any && dots { &after[1..] } else { after };
        let mut next = vec![false; text.len() + 1];
        if any {
            let mut open = false;
            for at in 0..=text.len() {
                open = ends[at] || (open && (dots || text[at - 1] != b'.'));
                next[at] = open;
            }
        } else {
            for (at, byte) in text.iter().enumerate() {
                let one = *byte == first || (first == b'?' && *byte != b'.');
                next[at + 1] = ends[at] && one;
            }
        }
        ends = next;
    }
    ends.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_has_a_name_that_reads_back() {
        for scheme in Scheme::all() {
            assert_eq!(scheme.to_string().parse(), Ok(scheme));
            assert!(scheme.mode.takes(scheme.group, scheme.bits), "{scheme}");
        }
        assert_eq!(Scheme::all().count(), 21);
        for bad in ["", "affine", "affine7g64", "affine4g16", "mxfp4g32", "int4"] {
            let error = bad.parse::<Scheme>().unwrap_err();
            assert!(
                error.contains("affine4g64") && error.contains("nvfp4"),
                "{error}"
            );
        }
    }

    #[test]
    fn stars_within_a_part_and_across() {
        let fit = |p: &str, t: &str| fits(p.as_bytes(), t.as_bytes());
        assert!(fit("lm_head", "lm_head") && !fit("lm_head", "lm_head2"));
        assert!(fit("model.layers.*.mlp", "model.layers.10.mlp"));
        assert!(!fit("model.*", "model.layers.0") && fit("model.**", "model.layers.0"));
        assert!(fit("**.experts", "a.b.experts") && !fit("**.experts", "experts"));
        assert!(fit("layers.?.q", "layers.3.q") && !fit("layers.?.q", "layers.13.q"));
        assert!(fit("**", "") && fit("*", "x") && !fit("", "x") && !fit("?", "."));
        assert!(fit("**a**b*c", "xxayy.zzbc") && !fit("**a**b*c", "ab.c"));
        // No pattern makes this slow.
        assert!(!fit(
            &"*a".repeat(2000),
            &"a".repeat(3000).replace("aa", "b")
        ));
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let map: Map = "# general first\n** = affine4g64\nmodel.embed = affine8g64 # better\n\n**.router=none\n"
            .parse()
            .unwrap();
        let get = |name: &str| map.get(&[name.to_owned()]);
        let scheme = |text: &str| Some(Some(text.parse::<Scheme>().unwrap()));
        assert_eq!(get("model.up.weight"), scheme("affine4g64"));
        assert_eq!(get("model.embed.weight"), scheme("affine8g64"));
        assert_eq!(get("model.0.router.weight"), Some(None));
        let names = [
            ["model.up.weight".to_owned()],
            ["a.router.weight".to_owned()],
        ];
        let unused = map.unused(names.iter().map(<[String; 1]>::as_slice));
        assert_eq!(
            unused.unwrap().to_string(),
            "line 3: `model.embed` fits no weight of the model"
        );
        assert_eq!(Map::default().get(&names[0]), None);
    }

    #[test]
    fn mistakes_have_their_line() {
        let error = |text: &str| text.parse::<Map>().unwrap_err();
        assert_eq!(error("a = none\nb affine4g64").line, 2);
        assert_eq!(error("\n = mxfp4").line, 2);
        assert_eq!(error("a b = mxfp4").line, 1);
        let bad = error("a = mxfp4\n\n# x\nb = mxfp5");
        assert_eq!(bad.line, 4);
        assert!(
            bad.reason.contains("`mxfp5`") && bad.reason.ends_with("and none"),
            "{bad}"
        );
    }
}
