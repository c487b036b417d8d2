//! Conditions: CEL expressions over what a step's input would be.
//!
//! A condition sees `brief`, `params` and `results` (of the step's needs) and
//! nothing else: no clock, no I/O. It must answer with a boolean. One that
//! mentions `item` is asked for each element of its step's `forEach`.

use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr};
use cel::{Context, IdedExpr, Program, Value as CelValue};
use serde_json::{Map, Value};

/// The variables a `when` may use.
const VARIABLES: [&str; 4] = ["brief", "params", "results", ITEM];

/// The element a condition is asked about, where it is asked for each.
const ITEM: &str = "item";

/// Longest condition, in bytes.
const MAX_CONDITION_BYTES: usize = 4096;

/// Deepest nesting of brackets, and most operators and brackets in all. The
/// parser and the evaluator recurse, and a stack that overflows ends the whole
/// process: these keep both under half of a thread's two megabytes.
const MAX_NESTING: usize = 32;
const MAX_MARKS: usize = 512;

/// A compiled condition.
#[derive(Clone)]
pub struct Condition {
    text: String,
    program: Arc<Program>,
    asks_item: bool,
    asks_results: bool,
    loops: bool,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Condition({})", self.text)
    }
}

impl Condition {
    /// Compiles the text.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_CONDITION_BYTES {
            return Err(format!("{} bytes; at most {MAX_CONDITION_BYTES} are allowed", text.len()));
        }
        check_shape(text)?;
        let program = Program::compile(text).map_err(|e| {
            let told: Vec<_> = e.to_string().lines().map(str::trim).map(String::from).collect();
            format!("not a CEL expression: {}", told.join(" "))
        })?;
        let mut names = Names::default();
        names.collect(program.expression(), 0);
        if names.loops > 1 {
            return Err(
                "a loop inside a loop (all, exists, map, filter); its cost has no bound, use one".into()
            );
        }
        let bound = names.bound;
        let (mut asks_item, mut asks_results) = (false, false);
        for variable in program.references().variables() {
            asks_item |= variable == ITEM;
            asks_results |= variable == "results";
            if !VARIABLES.contains(&variable) && !bound.iter().any(|name| name == variable) {
                return Err(format!(
                    "unknown variable `{variable}`; a condition sees {}",
                    VARIABLES.join(", ")
                ));
            }
        }
        Ok(Self {
            text: text.to_owned(),
            program: Arc::new(program),
            asks_item,
            asks_results,
            loops: names.loops > 0,
        })
    }

    /// Whether the workflow's input and the definition say all it asks for.
    pub fn asks_input_only(&self) -> bool {
        !self.asks_item && !self.asks_results
    }

    /// Whether it is asked for each element of an expansion.
    pub fn asks_item(&self) -> bool {
        self.asks_item
    }

    /// Whether it looks at every element of a list.
    pub fn loops(&self) -> bool {
        self.loops
    }

    /// Evaluates the condition.
    ///
    /// # Errors
    /// A sentence: a missing key, a wrong type, an answer that is no boolean.
    pub fn holds(&self, brief: &Value, params: &Value, results: &Map<String, Value>) -> Result<bool, String> {
        self.answer(&context(brief, params, results)?)
    }

    /// Evaluates the condition for each element: the positions of those it is
    /// true for.
    ///
    /// # Errors
    /// As [`Condition::holds`], of the first element it cannot answer for.
    pub fn hold_for(
        &self,
        items: &[Value],
        brief: &Value,
        params: &Value,
        results: &Map<String, Value>,
    ) -> Result<Vec<u16>, String> {
        let context = context(brief, params, results)?;
        let mut holds = Vec::new();
        for (position, item) in (0..).zip(items) {
            let mut about = context.new_inner_scope();
            about.add_variable_from_value(ITEM.to_owned(), to_cel(item)?);
            if self.answer(&about)? {
                holds.push(position);
            }
        }
        Ok(holds)
    }

    fn answer(&self, context: &Context<'_, '_>) -> Result<bool, String> {
        match self.program.execute(context) {
            Ok(CelValue::Bool(answer)) => Ok(answer),
            Ok(other) => Err(format!("`{}` answered {:?}, not true or false", self.text, other.type_of())),
            Err(error) => Err(format!("`{}` failed: {error}", self.text)),
        }
    }
}

fn context(
    brief: &Value,
    params: &Value,
    results: &Map<String, Value>,
) -> Result<Context<'static, 'static>, String> {
    let mut context = Context::default();
    let mut set = |name: &str, value: CelValue| context.add_variable_from_value(name.to_owned(), value);
    set("brief", to_cel(brief)?);
    set("params", to_cel(params)?);
    set("results", cel::to_value(results).map_err(|e| e.to_string())?);
    Ok(context)
}

/// Refuses what would recurse too deep, before anything recurses. Marks inside
/// text literals count, too: being exact would take a parser.
fn check_shape(text: &str) -> Result<(), String> {
    let (mut nesting, mut deepest) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => nesting += 1,
            ')' | ']' | '}' => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(nesting);
    }
    if deepest > MAX_NESTING {
        return Err(format!("brackets nested {deepest} deep; at most {MAX_NESTING} are allowed"));
    }
    let marks = text.chars().filter(char::is_ascii_punctuation).count();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| *w == "in").count();
    if marks + words > MAX_MARKS {
        let count = marks + words;
        return Err(format!("{count} operators and brackets; at most {MAX_MARKS} are allowed"));
    }
    Ok(())
}

/// What `all`, `exists`, `map` and `filter` bind (`references()` counts these
/// as variables, too), and how deep such loops are nested.
#[derive(Default)]
struct Names {
    bound: Vec<String>,
    loops: usize,
}

impl Names {
    fn collect(&mut self, expression: &IdedExpr, loops: usize) {
        match &expression.expr {
            Expr::Call(call) => {
                call.target.iter().for_each(|target| self.collect(target, loops));
                call.args.iter().for_each(|arg| self.collect(arg, loops));
            }
            Expr::Comprehension(each) => {
                // The list is made once; the rest runs for each element.
                self.collect(&each.iter_range, loops);
                self.loops = self.loops.max(loops + 1);
                for part in [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result] {
                    self.collect(part, loops + 1);
                }
                self.bound.extend([each.iter_var.clone(), each.accu_var.clone()]);
                self.bound.extend(each.iter_var2.clone());
            }
            Expr::List(list) => list.elements.iter().for_each(|element| self.collect(element, loops)),
            Expr::Select(select) => self.collect(&select.operand, loops),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.collect(&entry.key, loops);
                        self.collect(&entry.value, loops);
                    }
                }
            }
            Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }
}

fn to_cel(value: &Value) -> Result<CelValue, String> {
    cel::to_value(value).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(text: &str) -> Result<bool, String> {
        let results = json!({ "review": { "score": 0.9, "tags": ["a", "b"] }, "skipped": null });
        let Value::Object(results) = results else { unreachable!() };
        Condition::compile(text)?.holds(&json!({ "platforms": ["x"] }), &json!({ "n": 3 }), &results)
    }

    #[test]
    fn conditions_see_brief_params_and_results() {
        assert_eq!(ask("results.review.score >= 0.85 && 'x' in brief.platforms"), Ok(true));
        assert_eq!(ask("params.n > 3"), Ok(false));
        assert_eq!(ask("results.skipped == null"), Ok(true));
        assert_eq!(ask("size(results.review.tags) == 2"), Ok(true));
        assert_eq!(ask("results.review.tags.exists(t, t == 'b')"), Ok(true));
    }

    #[test]
    fn a_condition_about_an_element_is_asked_for_each() {
        let asked = |text: &str| {
            let results = json!({ "review": { "perPost": [{ "platform": "x", "score": 0.5 }, { "platform": "y", "score": 1 }] } });
            let Value::Object(results) = results else { unreachable!() };
            let items = json!([{ "platform": "x" }, { "platform": "y" }, { "platform": "z" }]);
            let brief = json!({ "minScore": 1 });
            let condition = Condition::compile(text)?;
            assert!(condition.asks_item(), "{text}");
            condition.hold_for(items.as_array().map_or(&[], Vec::as_slice), &brief, &Value::Null, &results)
        };
        let below =
            "results.review.perPost.exists(p, p.platform == item.platform && p.score < brief.minScore)";
        assert_eq!(asked(below), Ok(vec![0]));
        assert_eq!(asked("item.platform != 'x'"), Ok(vec![1, 2]));
        assert_eq!(asked("item == null"), Ok(vec![]));
        assert!(asked("item.nobody == 1").expect_err("no such key").contains("failed"));
        assert!(!Condition::compile("brief.item == 1").expect("it compiles").asks_item());
        for (text, only) in [
            ("has(brief.a)", true),
            ("results.a == 1", false),
            ("item == 1", false),
            ("params.results", true),
        ] {
            assert_eq!(Condition::compile(text).expect(text).asks_input_only(), only, "{text}");
        }
        assert!(Condition::compile(below).expect("it compiles").loops());
    }

    #[test]
    fn a_wrong_condition_says_why() {
        for (text, why) in [
            ("1 +", "not a CEL expression"),
            ("secrets.key == 1", "unknown variable `secrets`"),
            ("results.nobody.score > 1", "failed"),
            ("params.n", "not true or false"),
            ("brief.platforms.all(a, brief.platforms.all(b, a == b))", "a loop inside a loop"),
        ] {
            let told = ask(text).expect_err(text);
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
