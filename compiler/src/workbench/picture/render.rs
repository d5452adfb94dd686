//! The formats: Graphviz' language, SVG, and a page that shows the SVG with search, details and folded modules.

use super::layout::{Point, layered};
use super::{Kind, Picture, Shape, time};
use std::fmt::Write;

const CHAR: f64 = 6.7;
const LINE: f64 = 14.0;
const PAD: f64 = 8.0;
const MARGIN: f64 = 12.0;
const HEAD: f64 = 20.0;

/// The longest line that a box shows whole.
const LONGEST: usize = 44;

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::End => "end",
            Kind::Fused => "fused",
            Kind::View => "view",
            Kind::Once => "once",
            Kind::Plain => "plain",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Kind::End => "#e8eef7",
            Kind::Fused => "#ffd9a8",
            Kind::View => "#f4f4f4",
            Kind::Once => "#e3f1e1",
            Kind::Plain => "#ffffff",
        }
    }
}

/// The picture in Graphviz' language.
pub fn dot(picture: &Picture) -> String {
    let mut out = String::from("digraph {\n");
    let _ = writeln!(out, "  label={};", quoted(&picture.caption));
    out.push_str("  node [shape=box, style=filled, fontname=\"monospace\", fontsize=10];\n");
    for (n, cluster) in picture.clusters.iter().enumerate() {
        let named = !cluster.module.is_empty();
        if named {
            let label = quoted(&format!("{} ({})", cluster.module, time(cluster.cost)));
            let _ = writeln!(out, "  subgraph cluster_{n} {{\n    label={label};");
        }
        for i in &cluster.shapes {
            let shape = &picture.shapes[*i];
            let label = quoted(&lines(shape).join("\n"));
            let colour = shape.kind.colour();
            let tip = quoted(&shape.text);
            let _ = writeln!(
                out,
                "    n{i} [label={label}, fillcolor=\"{colour}\", tooltip={tip}];"
            );
        }
        if named {
            out.push_str("  }\n");
        }
    }
    for (from, to) in &picture.edges {
        let _ = writeln!(out, "  n{from} -> n{to};");
    }
    out.push_str("}\n");
    out
}

/// A string of Graphviz' language; line breaks centre.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}

/// Text between tags, or in an attribute.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_string(),
            '<' => "&lt;".to_string(),
            '>' => "&gt;".to_string(),
            '"' => "&quot;".to_string(),
            '\'' => "&#39;".to_string(),
            // No other control character may stand in XML.
            c if c.is_control() => " ".to_string(),
            c => c.to_string(),
        })
        .collect()
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_string();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// What stands in a box: value and op, cost, then the rest.
fn lines(shape: &Shape) -> Vec<String> {
    let head = match shape.kind {
        Kind::End => shape.title.clone(),
        _ => format!("{} {}", shape.name, shape.title),
    };
    let mut lines = vec![head];
    lines.extend(shape.lines.iter().map(|l| shortened(l)));
    match shape.kind {
        Kind::End => {}
        Kind::Once => lines.push("once, at load".into()),
        _ => lines.push(time(shape.cost)),
    }
    lines
}

/// Where everything stands.
struct Places {
    shapes: Vec<Point>,
    sizes: Vec<Point>,
    clusters: Vec<(Point, Point)>,
    size: Point,
}

fn places(picture: &Picture) -> Places {
    let size = |shape: &Shape| {
        let lines = lines(shape);
        let longest = lines.iter().map(|l| l.chars().count()).max().unwrap_or(0);
        Point {
            x: longest as f64 * CHAR + 2.0 * PAD,
            y: lines.len() as f64 * LINE + 2.0 * PAD,
        }
    };
    let sizes: Vec<Point> = picture.shapes.iter().map(size).collect();
    let cluster_of = |i: usize| picture.shapes[i].cluster;
    let mut inner: Vec<Vec<Point>> = Vec::new();
    let mut outer: Vec<Point> = Vec::new();
    for (n, cluster) in picture.clusters.iter().enumerate() {
        let local = |i: usize| cluster.shapes.binary_search(&i).ok();
        let of: Vec<Point> = cluster.shapes.iter().map(|i| sizes[*i]).collect();
        let edges = picture
            .edges
            .iter()
            .filter(|(a, b)| cluster_of(*a) == n && cluster_of(*b) == n);
        let edges: Vec<(usize, usize)> = edges
            .filter_map(|(a, b)| Some((local(*a)?, local(*b)?)))
            .collect();
        let (places, size) = layered(&of, &edges);
        let name = cluster.module.chars().count() as f64 * CHAR + 80.0;
        inner.push(places);
        outer.push(match cluster.module.is_empty() {
            true => size,
            false => Point {
                x: size.x.max(name) + 2.0 * MARGIN,
                y: size.y + 2.0 * MARGIN + HEAD,
            },
        });
    }
    let between = picture
        .edges
        .iter()
        .map(|(a, b)| (cluster_of(*a), cluster_of(*b)));
    let between: Vec<(usize, usize)> = between.filter(|(a, b)| a != b).collect();
    let (corners, mut size) = layered(&outer, &between);
    let mut shapes = vec![Point::default(); picture.shapes.len()];
    for (cluster, (corner, inner)) in picture.clusters.iter().zip(corners.iter().zip(&inner)) {
        let frame = match cluster.module.is_empty() {
            true => Point::default(),
            false => Point {
                x: MARGIN,
                y: MARGIN + HEAD,
            },
        };
        for (i, place) in cluster.shapes.iter().zip(inner) {
            shapes[*i] = Point {
                x: MARGIN + corner.x + frame.x + place.x,
                y: MARGIN + HEAD + corner.y + frame.y + place.y,
            };
        }
    }
    let clusters = corners.into_iter().zip(outer);
    let clusters = clusters.map(|(at, size)| {
        let at = Point {
            x: at.x + MARGIN,
            y: at.y + MARGIN + HEAD,
        };
        (at, size)
    });
    let caption = picture.caption.chars().count() as f64 * CHAR * 1.2;
    size.x = size.x.max(caption) + 2.0 * MARGIN;
    size.y += 2.0 * MARGIN + HEAD;
    Places {
        shapes,
        sizes,
        clusters: clusters.collect(),
        size,
    }
}

/// The picture as an SVG that stands alone.
pub fn svg(picture: &Picture) -> String {
    let at = places(picture);
    let mut out = String::new();
    let (w, h) = (at.size.x, at.size.y);
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w:.0}\" height=\"{h:.0}\" viewBox=\"0 0 {w:.0} {h:.0}\" font-family=\"monospace\" font-size=\"11\">"
    );
    out.push_str(
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"6\" markerHeight=\"6\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#777\"/></marker></defs>\n",
    );
    let caption = escaped(&picture.caption);
    let _ = writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"{HEAD}\" font-size=\"13\" font-weight=\"bold\">{caption}</text>"
    );
    for (cluster, (corner, size)) in picture.clusters.iter().zip(&at.clusters) {
        if cluster.module.is_empty() {
            continue;
        }
        let (x, y) = (corner.x, corner.y);
        let _ = writeln!(
            out,
            "<g class=\"cluster\"><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"6\" fill=\"#fafaf5\" stroke=\"#bbb\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\">{} · {}</text></g>",
            size.x,
            size.y,
            x + MARGIN,
            y + HEAD,
            escaped(&cluster.module),
            time(cluster.cost)
        );
    }
    for (from, to) in &picture.edges {
        let (a, b) = (at.shapes[*from], at.shapes[*to]);
        let (x1, y1) = (a.x + at.sizes[*from].x / 2.0, a.y + at.sizes[*from].y);
        let (x2, y2) = (b.x + at.sizes[*to].x / 2.0, b.y);
        let bend = ((y2 - y1) / 2.0).max(16.0);
        let _ = writeln!(
            out,
            "<path class=\"edge\" data-from=\"{from}\" data-to=\"{to}\" d=\"M{x1:.1} {y1:.1}C{x1:.1} {:.1} {x2:.1} {:.1} {x2:.1} {y2:.1}\" fill=\"none\" stroke=\"#999\" marker-end=\"url(#arrow)\"/>",
            y1 + bend,
            y2 - bend
        );
    }
    for (n, shape) in picture.shapes.iter().enumerate() {
        let (place, size) = (at.shapes[n], at.sizes[n]);
        let _ = write!(
            out,
            "<g class=\"box {}\" data-n=\"{n}\"><title>{}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"4\" fill=\"{}\" stroke=\"#666\"/>",
            shape.kind.name(),
            escaped(&shape.text),
            place.x,
            place.y,
            size.x,
            size.y,
            shape.kind.colour()
        );
        for (row, line) in lines(shape).iter().enumerate() {
            let y = place.y + PAD + LINE * (row as f64 + 0.8);
            let bold = if row == 0 {
                " font-weight=\"bold\""
            } else {
                ""
            };
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{y:.1}\"{bold}>{}</text>",
                place.x + PAD,
                escaped(line)
            );
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// Pictures as a page that stands alone: search, details of what the pointer is on, and the modules with their costs, folded.
pub fn html(pictures: &[Picture]) -> String {
    let mut out = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Fuseline</title>\n<style>\n",
    );
    out.push_str(include_str!("page.css"));
    out.push_str("</style>\n</head>\n<body>\n<aside>\n<input id=\"search\" type=\"search\" placeholder=\"search: op, type, module, weight\">\n<p id=\"found\"></p>\n<pre id=\"detail\">point at a box</pre>\n");
    for picture in pictures {
        let _ = writeln!(out, "<h2>{}</h2>", escaped(&picture.caption));
        let total = picture.cost.max(1) as f64;
        for (n, shapes) in by_module(picture) {
            let cost: u64 = shapes.iter().map(|i| picture.shapes[*i].cost).sum();
            let name = if n.is_empty() { "(no module)" } else { n };
            let share = cost as f64 * 100.0 / total;
            let _ = writeln!(
                out,
                "<details><summary>{} <small>{} · {share:.1} %</small></summary><ul>",
                escaped(name),
                time(cost)
            );
            for i in shapes {
                let shape = &picture.shapes[i];
                let _ = writeln!(
                    out,
                    "<li class=\"{}\">{} <small>{}</small></li>",
                    shape.kind.name(),
                    escaped(&shape.text),
                    time(shape.cost)
                );
            }
            out.push_str("</ul></details>\n");
        }
    }
    out.push_str("</aside>\n<main>\n");
    for picture in pictures {
        out.push_str("<section>\n");
        out.push_str(&svg(picture));
        out.push_str("</section>\n");
    }
    out.push_str("</main>\n<script>\n");
    out.push_str(include_str!("page.js"));
    out.push_str("</script>\n</body>\n</html>\n");
    out
}

/// The boxes of each module, modules in the order of their first boxes.
fn by_module(picture: &Picture) -> Vec<(&str, Vec<usize>)> {
    let mut out: Vec<(&str, Vec<usize>)> = Vec::new();
    for cluster in &picture.clusters {
        match out.iter_mut().find(|(name, _)| *name == cluster.module) {
            Some((_, shapes)) => shapes.extend_from_slice(&cluster.shapes),
            None => out.push((&cluster.module, cluster.shapes.clone())),
        }
    }
    out
}
