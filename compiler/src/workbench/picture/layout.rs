//! Where boxes stand: in layers, each below all that it depends on, ordered so that few arrows cross.
//!
//! The same layout serves twice: for the boxes of a cluster, and for the clusters as boxes. So clusters never overlap, and a box is always inside of its own.

/// A size or a place, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Down.
    pub y: f64,
}

/// Gaps between boxes of a layer and between layers.
const GAP: Point = Point { x: 24.0, y: 34.0 };

/// How often layers are ordered by their neighbours, down and up.
const SWEEPS: usize = 4;

/// Places boxes of these sizes; edges lead from an earlier box to a later one. Gives the upper left corner of each and the size of all.
pub fn layered(sizes: &[Point], edges: &[(usize, usize)]) -> (Vec<Point>, Point) {
    let n = sizes.len();
    let (mut above, mut below) = (vec![Vec::new(); n], vec![Vec::new(); n]);
    let mut layer = vec![0usize; n];
    // Sources come first, so one walk over the edges by their targets gives the longest paths.
    let mut sorted = edges.to_vec();
    sorted.sort_unstable_by_key(|(from, to)| (*to, *from));
    sorted.dedup();
    for (from, to) in sorted {
        layer[to] = layer[to].max(layer[from] + 1);
        above[to].push(from);
        below[from].push(to);
    }
    // What nothing leads to stands just above its first reader.
    for i in (0..n).filter(|i| above[*i].is_empty()) {
        let first = below[i].iter().map(|r| layer[*r]).min();
        layer[i] = first.map_or(0, |l| l.saturating_sub(1));
    }
    let depth = layer.iter().max().map_or(0, |l| l + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); depth];
    for i in 0..n {
        rows[layer[i]].push(i);
    }
    let mut x = vec![0.0; n];
    rows.iter().for_each(|row| spread(row, sizes, &mut x));
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        for step in 0..depth {
            let row = if down { step } else { depth - 1 - step };
            let neighbours = if down { &above } else { &below };
            let mean = |i: usize| {
                let of = &neighbours[i];
                let centres = of.iter().map(|o| x[*o] + sizes[*o].x / 2.0);
                match of.len() {
                    0 => x[i] + sizes[i].x / 2.0,
                    count => centres.sum::<f64>() / count as f64,
                }
            };
            let mut keyed: Vec<(f64, usize)> = rows[row].iter().map(|i| (mean(*i), *i)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            rows[row] = keyed.into_iter().map(|(_, i)| i).collect();
            spread(&rows[row], sizes, &mut x);
        }
    }
    let left = x.iter().copied().fold(f64::INFINITY, f64::min);
    let mut places = vec![Point::default(); n];
    let mut size = Point::default();
    let mut y = 0.0;
    for row in &rows {
        let height = row.iter().map(|i| sizes[*i].y).fold(0.0, f64::max);
        for i in row {
            let dx = x[*i] - left;
            places[*i] = Point { x: dx, y };
            size.x = size.x.max(dx + sizes[*i].x);
        }
        size.y = y + height;
        y = size.y + GAP.y;
    }
    (places, size)
}

/// Puts the boxes of a row side by side, centred on 0.
fn spread(row: &[usize], sizes: &[Point], x: &mut [f64]) {
    let gaps = GAP.x * row.len().saturating_sub(1) as f64;
    let width = row.iter().map(|i| sizes[*i].x).sum::<f64>() + gaps;
    let mut at = -width / 2.0;
    for i in row {
        x[*i] = at;
        at += sizes[*i].x + GAP.x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_stand_below_and_nothing_overlaps() {
        let sizes = [Point { x: 40.0, y: 20.0 }; 6];
        let edges = [
            (0, 1),
            (0, 2),
            (0, 3),
            (1, 4),
            (2, 4),
            (3, 4),
            (0, 4),
            (5, 4),
        ];
        let (places, size) = layered(&sizes, &edges);
        for (from, to) in edges {
            assert!(places[from].y + 20.0 < places[to].y);
        }
        for i in 0..6 {
            assert!(places[i].x >= 0.0 && places[i].x + 40.0 <= size.x);
            for j in 0..i {
                let apart = (places[i].x - places[j].x).abs() >= 40.0;
                assert!(apart || (places[i].y - places[j].y).abs() >= 20.0);
            }
        }
    }

    #[test]
    fn nothing_is_no_picture() {
        assert_eq!(layered(&[], &[]), (Vec::new(), Point::default()));
    }
}
