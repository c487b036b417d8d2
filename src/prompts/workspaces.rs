//! What the templates of a workspace may use. Whoever writes them is no
//! deployer, and their slip must not let other people's words out of the fence.
//!
//! Every value that is printed comes out fenced, asked for or not; numbers and
//! booleans alone do not. What a template may call neither makes text that
//! passes as fenced nor cuts text that is. A word of this list that is missing
//! in a template's language is an error with its line, when it is set.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, Output, State, filters, tests as asked};

use crate::fence::fence;
use crate::template::block;

/// An environment with these words and no others.
pub(crate) fn environment() -> Environment<'static> {
    let mut templates = Environment::empty();
    templates.set_formatter(print);
    templates.add_filter("abs", filters::abs);
    templates.add_filter("attr", filters::attr);
    templates.add_filter("batch", filters::batch);
    templates.add_filter("bool", filters::bool);
    templates.add_filter("count", filters::length);
    templates.add_filter("d", filters::default);
    templates.add_filter("default", filters::default);
    templates.add_filter("dictsort", filters::dictsort);
    templates.add_filter("first", filters::first);
    templates.add_filter("float", filters::float);
    templates.add_filter("groupby", filters::groupby);
    templates.add_filter("int", filters::int);
    templates.add_filter("items", filters::items);
    templates.add_filter("last", filters::last);
    templates.add_filter("length", filters::length);
    templates.add_filter("map", filters::map);
    templates.add_filter("max", filters::max);
    templates.add_filter("min", filters::min);
    templates.add_filter("reject", filters::reject);
    templates.add_filter("rejectattr", filters::rejectattr);
    templates.add_filter("round", filters::round);
    templates.add_filter("select", filters::select);
    templates.add_filter("selectattr", filters::selectattr);
    templates.add_filter("slice", filters::slice);
    templates.add_filter("sort", filters::sort);
    templates.add_filter("sum", filters::sum);
    templates.add_filter("unique", filters::unique);
    templates.add_test("boolean", asked::is_boolean);
    templates.add_test("defined", asked::is_defined);
    templates.add_test("divisibleby", asked::is_divisibleby);
    templates.add_test("endingwith", asked::is_endingwith);
    templates.add_test("eq", asked::is_eq);
    templates.add_test("equalto", asked::is_eq);
    templates.add_test("even", asked::is_even);
    templates.add_test("false", asked::is_false);
    templates.add_test("ge", asked::is_ge);
    templates.add_test("gt", asked::is_gt);
    templates.add_test("in", asked::is_in);
    templates.add_test("integer", asked::is_integer);
    templates.add_test("iterable", asked::is_iterable);
    templates.add_test("le", asked::is_le);
    templates.add_test("lt", asked::is_lt);
    templates.add_test("mapping", asked::is_mapping);
    templates.add_test("ne", asked::is_ne);
    templates.add_test("none", asked::is_none);
    templates.add_test("number", asked::is_number);
    templates.add_test("odd", asked::is_odd);
    templates.add_test("sequence", asked::is_sequence);
    templates.add_test("startingwith", asked::is_startingwith);
    templates.add_test("string", asked::is_string);
    templates.add_test("true", asked::is_true);
    templates.add_test("undefined", asked::is_undefined);
    templates
}

/// Prints a value: as it is where it was printed before (a block, a macro's
/// text), else fenced.
fn print(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let text = match value.kind() {
        ValueKind::Undefined => return Ok(()),
        ValueKind::Number | ValueKind::Bool => block(value),
        _ if value.is_safe() => return out.write_str(&value.to_string()).map_err(Error::from),
        _ => fence("value", &block(value)),
    };
    out.write_str(&text).map_err(Error::from)
}

#[cfg(test)]
#[path = "workspaces_tests.rs"]
mod tests;
