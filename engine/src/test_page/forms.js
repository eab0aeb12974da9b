// Fields for a JSON Schema, and JSON of what a person has put into them.

/** Makes an element. What comes from a server is only ever text of it. */
function make(name, properties = {}, ...children) {
  const { data = {}, aria = {}, ...own } = properties;
  const element = Object.assign(document.createElement(name), own);
  Object.assign(element.dataset, data);
  for (const [key, value] of Object.entries(aria)) element.setAttribute(`aria-${key}`, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

let fields = 0;

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** The part of a schema that a `$ref` within it names. */
function referred(reference, root) {
  let target = root;
  for (const part of reference.split("/").slice(1)) {
    const name = part.replace(/~1/g, "/").replace(/~0/g, "~");
    target = isObject(target) && Object.hasOwn(target, name) ? target[name] : undefined;
  }
  return isObject(target) ? target : {};
}

/** A schema without references, and without `null` where there is one other variant. */
function plain(schema, root, depth = 0) {
  if (!isObject(schema) || depth > 8) return {};
  const { $ref, anyOf, oneOf, ...rest } = schema;
  if (typeof $ref === "string" && $ref.startsWith("#/")) {
    return plain({ ...referred($ref, root), ...rest }, root, depth + 1);
  }
  const variants = anyOf ?? oneOf;
  const others = Array.isArray(variants) ? variants.filter((variant) => variant?.type !== "null") : [];
  if (others.length === 1) return plain({ ...others[0], ...rest }, root, depth + 1);
  const types = Array.isArray(schema.type) ? schema.type.filter((type) => type !== "null") : [];
  return types.length === 1 ? { ...schema, type: types[0] } : schema;
}

/** The values among which a person chooses; `null` where there is no such list. */
function choices(schema) {
  if (schema.type === "boolean") return [{ value: true }, { value: false }];
  if (Array.isArray(schema.enum)) {
    return schema.enum.map((value, at) => ({ value, title: schema.enumNames?.[at] }));
  }
  const variants = schema.oneOf ?? schema.anyOf;
  const isList = Array.isArray(variants) && variants.length > 0;
  if (isList && variants.every((variant) => isObject(variant) && "const" in variant)) {
    return variants.map((variant) => ({ value: variant.const, title: variant.title }));
  }
  return "const" in schema ? [{ value: schema.const }] : null;
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function select(options, initial, { isRequired, multiple }) {
  const control = make("select", { multiple, required: isRequired && !multiple });
  if (multiple) control.size = Math.min(options.length, 6);
  else control.append(make("option", { value: "" }, isRequired ? "Choose…" : "Not set"));
  options.forEach(({ value, title }, at) => {
    const text = JSON.stringify(value);
    const isChosen = initial.some((one) => JSON.stringify(one) === text);
    const named = title === undefined ? shown(value) : `${title} (${shown(value)})`;
    control.append(make("option", { value: String(at), selected: isChosen }, named));
  });
  const json = ({ value }) => JSON.stringify(options[Number(value)].value);
  const read = () => {
    const chosen = [...control.selectedOptions].filter((option) => option.value !== "").map(json);
    if (multiple) return chosen.length > 0 || isRequired ? `[${chosen.join(",")}]` : undefined;
    return chosen[0];
  };
  return { control, read };
}

function number(schema, isRequired) {
  const control = make("input", { type: "number", required: isRequired, step: schema.type === "integer" ? "1" : "any" });
  for (const [name, limit] of [["min", schema.minimum], ["max", schema.maximum]]) {
    if (typeof limit === "number") control[name] = String(limit);
  }
  if (typeof schema.default === "number") control.value = String(schema.default);
  const read = () => {
    const text = control.value;
    // What is JSON goes as it was typed: a long number keeps all its digits.
    if (/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text)) return text;
    return text === "" ? undefined : String(Number(text));
  };
  return { control, read };
}

const INPUTS = { email: "email", uri: "url", date: "date" };

function string(schema, isRequired) {
  const type = INPUTS[schema.format];
  const control = type ? make("input", { type, required: isRequired }) : make("textarea", { rows: 1 });
  control.autocomplete = "off";
  if (schema.minLength > 0) Object.assign(control, { minLength: schema.minLength, required: isRequired });
  if (schema.maxLength >= 0) control.maxLength = schema.maxLength;
  if (typeof schema.default === "string") control.value = schema.default;
  const read = () => (control.value === "" && !isRequired ? undefined : quoted(control.value));
  return { control, read };
}

/** Whatever has no field of its own is written as JSON. */
function json(schema, isRequired) {
  const control = make("textarea", { className: "json", rows: 3, spellcheck: false, required: isRequired });
  if (schema.default !== undefined) control.value = JSON.stringify(schema.default, null, 2);
  const fits = { array: Array.isArray, object: isObject }[schema.type] ?? (() => true);
  const check = () => {
    const value = parsed(control.value);
    const isBlank = control.value.trim() === "";
    const fault = value === undefined ? "This is not JSON." : fits(value) ? "" : `This must be an ${schema.type}.`;
    control.setCustomValidity(isBlank ? "" : fault);
  };
  control.addEventListener("input", check);
  check();
  const read = () => (control.value.trim() === "" ? undefined : control.value);
  return { control, read };
}

function reader(schema, root, isRequired) {
  const options = choices(schema);
  const initial = schema.default === undefined ? [] : [schema.default];
  if (options) return select(options, initial, { isRequired, multiple: false });
  const items = schema.type === "array" ? choices(plain(schema.items, root)) : null;
  if (items) return select(items, initial.flat(), { isRequired, multiple: true });
  if (schema.type === "integer" || schema.type === "number") return number(schema, isRequired);
  if (schema.type === "string") return string(schema, isRequired);
  return json(schema, isRequired);
}

/** One field: its label, its control and what the schema says of it. `read` gives JSON, or `undefined` for nothing. */
function field(name, given, root, isRequired) {
  const schema = plain(given, root);
  const { control, read } = reader(schema, root, isRequired);
  fields += 1;
  control.id = `field-${fields}`;
  const limits = [
    typeof schema.minimum === "number" ? `at least ${schema.minimum}` : null,
    typeof schema.maximum === "number" ? `at most ${schema.maximum}` : null,
  ].filter((limit) => limit !== null);
  const about = [schema.description, limits.join(", ")].filter((text) => typeof text === "string" && text !== "").join(" · ");
  const hint = about ? make("p", { className: "hint", id: `${control.id}-hint` }, about) : null;
  if (hint) control.setAttribute("aria-describedby", hint.id);
  const kind = typeof schema.type === "string" ? schema.type : "JSON";
  const title = typeof schema.title === "string" && schema.title !== name ? `${schema.title} (${name})` : name;
  const mark = isRequired ? make("abbr", { className: "required", title: "required" }, " *") : null;
  const label = make("label", { htmlFor: control.id }, `${title} `, make("span", { className: "kind" }, kind), mark);
  return { name, read, element: make("div", { className: "field" }, label, control, hint) };
}

/** Puts the fields of an object's schema into `form`. Gives a function that returns the object as JSON. */
function fill(form, schema) {
  const root = isObject(schema) ? schema : {};
  const of = plain(root, root);
  const properties = Object.entries(isObject(of.properties) ? of.properties : {});
  const required = Array.isArray(of.required) ? of.required : [];
  if (properties.length === 0 && of.additionalProperties === false) {
    form.append(make("p", { className: "hint" }, "Nothing is asked for."));
    return () => "{}";
  }
  if (properties.length === 0) {
    const whole = field("Arguments", { type: "object", description: "All of them as one JSON object; empty is none." }, {}, false);
    form.append(whole.element);
    return () => whole.read() ?? "{}";
  }
  const all = properties.map(([name, schema]) => field(name, schema, root, required.includes(name)));
  form.append(...all.map(({ element }) => element));
  return () => {
    const members = all.map(({ name, read }) => [name, read()]).filter(([, json]) => json !== undefined);
    return `{${members.map(([name, json]) => `${quoted(name)}:${json}`).join(",")}}`;
  };
}
