//! Products of matrices.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Value};

use super::pointwise::{boolean, done};
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::promote;
use crate::import::{Handler, Importer};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, overload) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match (operator, overload) {
        ("matmul", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "self")?, call.value(cx, "other")?);
            done(matmul(cx, a, b))
        },
        ("mm" | "bmm", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "self")?, call.value(cx, "mat2")?);
            done(matmul(cx, a, b))
        },
        ("mv", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "self")?, call.value(cx, "vec")?);
            done(matmul(cx, a, b))
        },
        ("dot" | "vdot", "default") => |cx, call| {
            let (a, b) = (
                call.value(cx, "self")?,
                call.value(
                    cx,
                    if call.schema.is_some_and(|s| s.arg("tensor").is_some()) {
                        "tensor"
                    } else {
                        "other"
                    },
                )?,
            );
            done(matmul(cx, a, b))
        },
        ("linear", "default") => |cx, call| {
            let (x, weight) = (call.value(cx, "input")?, call.value(cx, "weight")?);
            let bias = call.opt_value(cx, "bias")?;
            done(linear(cx, x, weight, bias))
        },
        ("addmm", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "mat1")?, call.value(cx, "mat2")?);
            let product = matmul(cx, a, b)?;
            add_scaled(cx, call, product)
        },
        ("baddbmm", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "batch1")?, call.value(cx, "batch2")?);
            let product = matmul(cx, a, b)?;
            add_scaled(cx, call, product)
        },
        ("addbmm", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "batch1")?, call.value(cx, "batch2")?);
            let products = matmul(cx, a, b)?;
            let product = cx.build.add(
                op::Sum {
                    axes: vec![0],
                    keepdim: false,
                },
                &[products],
            )?;
            let product = cx.build.cast(product, call.out_dtype(0)?)?;
            add_scaled(cx, call, product)
        },
        ("addmv", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "mat")?, call.value(cx, "vec")?);
            let product = matmul(cx, a, b)?;
            add_scaled(cx, call, product)
        },
        ("addr", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "vec1")?, call.value(cx, "vec2")?);
            let product = outer(cx, a, b)?;
            let product = cx.build.cast(product, call.out_dtype(0)?)?;
            add_scaled(cx, call, product)
        },
        ("outer" | "ger", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "self")?, call.value(cx, "vec2")?);
            done(outer(cx, a, b))
        },
        ("inner", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "self")?, call.value(cx, "other")?);
            if cx.build.rank(a)? == 0 || cx.build.rank(b)? == 0 {
                return done(cx.build.add(op::Mul {}, &[a, b]));
            }
            let rank = cx.build.rank(b)?;
            // All rows with all rows: a against b's axes in one, then apart again.
            let shape = cx.build.shape(b)?;
            let (rows, size) = (
                shape[..rank - 1]
                    .iter()
                    .fold(Dim::from(1i64), |n, d| &n * d),
                shape[rank - 1].clone(),
            );
            let flat = cx.build.reshape(b, vec![rows, size])?;
            let turned = cx.build.swap(flat, 0, 1)?;
            let product = matmul(cx, a, turned)?;
            let out = call.out_shape(0)?;
            done(cx.build.reshape(product, out))
        },
        ("einsum", "default") => einsum,
        ("_weight_norm" | "_weight_norm_interface", "default") => weight_norm,
        ("bilinear", "default") => bilinear,
        ("cosine_similarity", "default") => cosine_similarity,
        // With a result of another type than the factors', which the products are summed in.
        ("mm" | "bmm", "dtype") => |cx, call| {
            let (a, b) = (call.value(cx, "self")?, call.value(cx, "mat2")?);
            let dtype = call.out_dtype(0)?;
            let (a, b) = (cx.build.cast(a, dtype)?, cx.build.cast(b, dtype)?);
            done(product(cx, a, b))
        },
        ("_weight_int8pack_mm", "default") => |cx, call| {
            let (x, weight) = (call.value(cx, "self")?, call.value(cx, "mat2")?);
            let scales = call.value(cx, "scales")?;
            let weight = cx.build.cast(weight, cx.build.dtype(x)?)?;
            let weight = cx.build.swap(weight, 0, 1)?;
            let all = product(cx, x, weight)?;
            done(cx.build.times(all, scales))
        },
        ("_int_mm", "default") => |cx, call| {
            let (a, b) = (call.value(cx, "self")?, call.value(cx, "mat2")?);
            let (a, b) = (cx.build.cast(a, DType::I32)?, cx.build.cast(b, DType::I32)?);
            done(product(cx, a, b))
        },
        _ => return None,
    })
}

/// The product of matrices, both at least 2-d.
fn product(cx: &mut Importer<'_>, a: Value, b: Value) -> Result<Value> {
    cx.build.add(op::Matmul {}, &[a, b])
}

/// `torch.matmul`: vectors are rows on the left and columns on the right; leading axes broadcast.
pub(in crate::import) fn matmul(cx: &mut Importer<'_>, a: Value, b: Value) -> Result<Value> {
    let (rank_a, rank_b) = (cx.build.rank(a)?, cx.build.rank(b)?);
    if rank_a == 0 || rank_b == 0 {
        return invalid("a product of a 0-d tensor");
    }
    let left = if rank_a == 1 {
        cx.build.unsqueeze(a, 0)?
    } else {
        a
    };
    let right = if rank_b == 1 {
        cx.build.unsqueeze(b, 1)?
    } else {
        b
    };
    let product = product(cx, left, right)?;
    let mut shape = cx.build.shape(product)?;
    if rank_b == 1 {
        shape.pop();
    }
    if rank_a == 1 {
        shape.remove(shape.len().saturating_sub(if rank_b == 1 { 1 } else { 2 }));
    }
    cx.build.reshape(product, shape)
}

/// `x · weightᵀ + bias`.
pub(in crate::import) fn linear(
    cx: &mut Importer<'_>,
    x: Value,
    weight: Value,
    bias: Option<Value>,
) -> Result<Value> {
    let turned = if cx.build.rank(weight)? == 2 {
        cx.build.swap(weight, 0, 1)?
    } else {
        weight
    };
    let product = matmul(cx, x, turned)?;
    match bias {
        Some(bias) => cx.build.add(op::Add {}, &[product, bias]),
        None => Ok(product),
    }
}

fn outer(cx: &mut Importer<'_>, a: Value, b: Value) -> Result<Value> {
    let column = cx.build.unsqueeze(a, 1)?;
    let args = [
        super::pointwise::Arg::Tensor(column),
        super::pointwise::Arg::Tensor(b),
    ];
    let values = super::pointwise::to_common(cx, &args)?;
    boolean(cx, op::Mul {}.into(), values[0], values[1])
}

/// `beta · self + alpha · product`. A beta of 0 ignores `self`, NaN included.
fn add_scaled(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    product: Value,
) -> Result<Vec<crate::import::Out>> {
    let (alpha, beta) = (call.float(cx, "alpha")?, call.float(cx, "beta")?);
    let dtype = cx.build.dtype(product)?;
    let times = |cx: &mut Importer<'_>, x: Value, factor: f64| {
        if factor == 1.0 {
            Ok(x)
        } else {
            let factor = cx.build.float(factor, dtype)?;
            boolean(cx, op::Mul {}.into(), x, factor)
        }
    };
    let product = times(cx, product, alpha)?;
    if beta == 0.0 {
        return done(Ok(product));
    }
    let x = call.value(cx, "self")?;
    let x = cx.build.cast(x, dtype)?;
    let x = times(cx, x, beta)?;
    done(boolean(cx, op::Add {}.into(), product, x))
}

/// Letters of one operand, with its axes.
struct Term {
    value: Value,
    letters: Vec<char>,
}

/// Einstein summation, two operands at a time from left to right.
fn einsum(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<crate::import::Out>> {
    let Some(equation) = call.opt_str("equation")? else {
        return invalid("einsum without an equation");
    };
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let values = call.values(cx, "tensors")?;
    let (inputs, output) = match equation.split_once("->") {
        Some((inputs, output)) => (inputs, Some(output)),
        None => (equation.as_str(), None),
    };
    let subscripts: Vec<&str> = inputs.split(',').collect();
    if subscripts.len() != values.len() {
        return invalid(format!("einsum `{equation}` of {} tensors", values.len()));
    }
    // The axes under an ellipsis get letters of their own, from the private use area, aligned at the end.
    let dots =
        |n: usize| char::from_u32(0xE000 + u32::try_from(n).unwrap_or(0)).unwrap_or('\u{E000}');
    let mut widest = 0;
    let mut terms = Vec::new();
    for (subscript, value) in subscripts.iter().zip(values) {
        let rank = cx.build.rank(value)?;
        let named = subscript.chars().filter(|c| c.is_alphabetic()).count();
        let mut letters = Vec::new();
        if let Some((before, after)) = subscript.split_once("...") {
            let Some(hidden) = rank.checked_sub(named) else {
                return invalid(format!("einsum `{equation}` of a {rank}-d tensor"));
            };
            widest = widest.max(hidden);
            letters.extend(before.chars());
            letters.extend((0..hidden).rev().map(dots));
            letters.extend(after.chars());
        } else {
            letters.extend(subscript.chars());
        }
        if letters.len() != rank {
            return invalid(format!("einsum `{equation}` of a {rank}-d tensor"));
        }
        terms.push(diagonals(cx, Term { value, letters })?);
    }
    let hidden = (0..widest).rev().map(dots);
    let wanted: Vec<char> = match output {
        Some(output) => match output.split_once("...") {
            Some((before, after)) => before.chars().chain(hidden).chain(after.chars()).collect(),
            None => output.chars().collect(),
        },
        None => {
            let mut once: Vec<char> = inputs.chars().filter(|c| c.is_alphabetic()).collect();
            once.sort_unstable();
            let all = once.clone();
            once.retain(|c| all.iter().filter(|d| *d == c).count() == 1);
            hidden.chain(once).collect()
        }
    };
    let mut terms = terms.into_iter();
    let Some(mut acc) = terms.next() else {
        return invalid("einsum without operands");
    };
    let rest: Vec<Term> = terms.collect();
    for n in 0..rest.len() {
        let needed = |c: char| {
            wanted.contains(&c) || rest[n + 1..].iter().any(|term| term.letters.contains(&c))
        };
        acc = contract(cx, acc, &rest[n], &needed)?;
    }
    acc = sum_out(cx, acc, &|c| wanted.contains(&c))?;
    let perm = wanted
        .iter()
        .map(|c| acc.letters.iter().position(|d| d == c))
        .collect::<Option<Vec<_>>>();
    match perm {
        Some(perm) => done(cx.build.transpose(acc.value, perm)),
        None => unsupported(format!(
            "einsum `{equation}`, whose output has a letter that no operand has"
        )),
    }
}

/// A letter that an operand has twice stands for a diagonal.
fn diagonals(cx: &mut Importer<'_>, mut term: Term) -> Result<Term> {
    while let Some((a, b)) = (0..term.letters.len()).find_map(|b| {
        let a = term.letters[..b]
            .iter()
            .position(|c| *c == term.letters[b])?;
        Some((a, b))
    }) {
        let Some(size) = cx.build.shape(term.value)?.get(a).cloned() else {
            return invalid("a diagonal without an axis");
        };
        let index = cx
            .build
            .arange(0i64.into(), 1i64.into(), size, fuseline_ir::DType::I64)?;
        term.value = cx
            .build
            .add(op::Gather { axes: vec![a, b] }, &[term.value, index, index])?;
        let letter = term.letters.remove(b);
        term.letters.remove(a);
        term.letters.insert(0, letter);
    }
    Ok(term)
}

/// Sums a term over the letters that nobody needs.
fn sum_out(cx: &mut Importer<'_>, term: Term, needed: &dyn Fn(char) -> bool) -> Result<Term> {
    let axes: Vec<usize> = (0..term.letters.len())
        .filter(|axis| !needed(term.letters[*axis]))
        .collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let value = cx.build.add(
        op::Sum {
            axes,
            keepdim: false,
        },
        &[term.value],
    )?;
    Ok(Term {
        value,
        letters: term.letters.into_iter().filter(|c| needed(*c)).collect(),
    })
}

/// One product: letters in both are batch (needed later) or summed; the rest are rows and columns.
fn contract(
    cx: &mut Importer<'_>,
    a: Term,
    b: &Term,
    needed: &dyn Fn(char) -> bool,
) -> Result<Term> {
    for term in [&a, b] {
        if cx.build.rank(term.value)? != term.letters.len() {
            return invalid(format!(
                "{} letters for another number of axes",
                term.letters.len()
            ));
        }
    }
    let a = sum_out(cx, a, &|c| needed(c) || b.letters.contains(&c))?;
    let b = sum_out(
        cx,
        Term {
            value: b.value,
            letters: b.letters.clone(),
        },
        &|c| needed(c) || a.letters.contains(&c),
    )?;
    let shared = |c: &char| a.letters.contains(c) && b.letters.contains(c);
    let batch: Vec<char> = a
        .letters
        .iter()
        .copied()
        .filter(|c| shared(c) && needed(*c))
        .collect();
    let summed: Vec<char> = a
        .letters
        .iter()
        .copied()
        .filter(|c| shared(c) && !needed(*c))
        .collect();
    let rows: Vec<char> = a.letters.iter().copied().filter(|c| !shared(c)).collect();
    let columns: Vec<char> = b.letters.iter().copied().filter(|c| !shared(c)).collect();
    let sizes = |cx: &Importer<'_>, term: &Term, letters: &[char]| -> Result<Vec<Dim>> {
        let shape = cx.build.shape(term.value)?;
        Ok(letters
            .iter()
            .filter_map(|c| {
                term.letters
                    .iter()
                    .position(|d| d == c)
                    .map(|axis| shape[axis].clone())
            })
            .collect())
    };
    // An axis of size 1 broadcasts against the other operand's.
    let (batch_a, batch_b) = (sizes(cx, &a, &batch)?, sizes(cx, &b, &batch)?);
    let batch_sizes: Vec<Dim> = batch_a
        .iter()
        .zip(&batch_b)
        .map(|(x, y)| if x.is(1) { y.clone() } else { x.clone() })
        .collect();
    let (summed_a, summed_b) = (sizes(cx, &a, &summed)?, sizes(cx, &b, &summed)?);
    if summed_a != summed_b {
        return unsupported("einsum that broadcasts a summed axis");
    }
    let count = |dims: &[Dim]| dims.iter().fold(Dim::from(1i64), |n, d| &n * d);
    let (row_sizes, column_sizes) = (sizes(cx, &a, &rows)?, sizes(cx, &b, &columns)?);
    let arrange = |cx: &mut Importer<'_>,
                   term: &Term,
                   order: [&[char]; 3],
                   last: [Dim; 2],
                   lead: &[Dim]|
     -> Result<Value> {
        let perm = order
            .concat()
            .iter()
            .filter_map(|c| term.letters.iter().position(|d| d == c))
            .collect();
        let moved = cx.build.transpose(term.value, perm)?;
        cx.build.reshape(moved, [lead, &last].concat())
    };
    let k = count(&summed_a);
    let left = arrange(
        cx,
        &a,
        [&batch, &rows, &summed],
        [count(&row_sizes), k.clone()],
        &batch_a,
    )?;
    let right = arrange(
        cx,
        &b,
        [&batch, &summed, &columns],
        [k, count(&column_sizes)],
        &batch_b,
    )?;
    let value = product(cx, left, right)?;
    let value = cx
        .build
        .reshape(value, [batch_sizes, row_sizes, column_sizes].concat())?;
    Ok(Term {
        value,
        letters: [batch, rows, columns].concat(),
    })
}

/// `v · g / ‖v‖`, the norm over every axis but one.
fn weight_norm(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<crate::import::Out>> {
    let (v, g) = (call.value(cx, "v")?, call.value(cx, "g")?);
    let kept = call.int("dim")?;
    let rank = cx.build.rank(v)?;
    let axes: Vec<usize> = if kept == -1 {
        (0..rank).collect()
    } else {
        let kept = cx.build.axis(v, kept)?;
        (0..rank).filter(|axis| *axis != kept).collect()
    };
    let dtype = cx.build.dtype(v)?;
    let wide = promote::compute_type(dtype);
    let (v, g) = (cx.build.cast(v, wide)?, cx.build.cast(g, wide)?);
    let squares = cx.build.add(op::Square {}, &[v])?;
    let sum = cx.build.add(
        op::Sum {
            axes,
            keepdim: true,
        },
        &[squares],
    )?;
    let norm = cx.build.add(op::Sqrt {}, &[sum])?;
    let factor = cx.build.add(op::Div {}, &[g, norm])?;
    let scaled = cx.build.add(op::Mul {}, &[v, factor])?;
    let mut outs = done(cx.build.cast(scaled, dtype))?;
    if call.out_names().len() > 1 {
        let norm = cx.build.cast(norm, call.out_dtype(1)?)?;
        outs.push(cx.build.reshape(norm, call.out_shape(1)?)?.into());
    }
    Ok(outs)
}

/// `y[.., o] = Σ x1[.., i] · w[o, i, j] · x2[.., j] + b[o]`.
fn bilinear(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<crate::import::Out>> {
    let (x1, x2, weight) = (
        call.value(cx, "input1")?,
        call.value(cx, "input2")?,
        call.value(cx, "weight")?,
    );
    let lead: Vec<char> = (0..cx.build.rank(x1)?.saturating_sub(1))
        .filter_map(|n| char::from_u32(0xE000 + n as u32))
        .collect();
    let with = |letter: char| [lead.as_slice(), &[letter]].concat();
    let needed = |c: char| c != 'i';
    let first = contract(
        cx,
        Term {
            value: x1,
            letters: with('i'),
        },
        &Term {
            value: weight,
            letters: vec!['o', 'i', 'j'],
        },
        &needed,
    )?;
    let needed = |c: char| c != 'j';
    let second = contract(
        cx,
        first,
        &Term {
            value: x2,
            letters: with('j'),
        },
        &needed,
    )?;
    let perm = with('o')
        .iter()
        .filter_map(|c| second.letters.iter().position(|d| d == c))
        .collect();
    let product = cx.build.transpose(second.value, perm)?;
    match call.opt_value(cx, "bias")? {
        Some(bias) => done(cx.build.add(op::Add {}, &[product, bias])),
        None => done(Ok(product)),
    }
}

fn cosine_similarity(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<crate::import::Out>> {
    let args = [
        super::pointwise::Arg::Tensor(call.value(cx, "x1")?),
        super::pointwise::Arg::Tensor(call.value(cx, "x2")?),
    ];
    let values = super::pointwise::to_common(cx, &args)?;
    let eps = call.float(cx, "eps")?;
    let mut product = cx.build.add(op::Mul {}, &values)?;
    let axis = cx.build.axis(product, call.int("dim")?)?;
    if cx.build.rank(product)? == 0 {
        product = cx.build.reshape(product, vec![1i64.into()])?;
    }
    let sum = |cx: &mut Importer<'_>, x: Value| {
        cx.build.add(
            op::Sum {
                axes: vec![axis],
                keepdim: false,
            },
            &[x],
        )
    };
    let dot = sum(cx, product)?;
    let shape = cx.build.shape(product)?;
    let mut norms = Vec::new();
    for value in values {
        let value = cx.build.broadcast(value, shape.clone())?;
        let squares = cx.build.add(op::Square {}, &[value])?;
        let total = sum(cx, squares)?;
        let norm = cx.build.add(op::Sqrt {}, &[total])?;
        norms.push(cx.build.with_float(op::Maximum {}, norm, eps)?);
    }
    let below = cx.build.add(op::Mul {}, &norms)?;
    done(cx.build.add(op::Div {}, &[dot, below]))
}
