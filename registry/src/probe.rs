#[cfg(test)]
mod t {
  #[test]
  fn circle(){
    for s in [r##"{"type":"object","allOf":[{"$ref":"#"}]}"##, r##"{"$ref":"#"}"##, r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##, r##"{"type":"object","properties":{"a":{"$ref":"#"}}}"##,r##"{"type":"object","$dynamicRef":"#"}"##,r##"{"not":{"$ref":"#"}}"##] {
      let s: serde_json::Value = serde_json::from_str(s).unwrap();
      eprintln!("{s}");
      let v = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&s);
      eprintln!("{:?}", v.as_ref().map(|v| v.is_valid(&serde_json::json!({}))).map_err(|e|e.to_string()));
    }
    for s in [r##"{"$ref":"http://example.com/x"}"##,r##"{"type":1}"##,r##"{"properties":{"a":{"pattern":"("}}}"##,r##"{"properties":{"a":{"pattern":"(a{1000}){1000}"}}}"##]{
      let s: serde_json::Value = serde_json::from_str(s).unwrap();
      let v = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).with_pattern_options(jsonschema::PatternOptions::regex().size_limit(200000)).build(&s);
      eprintln!("{s} {:?}", v.map(|_|()).map_err(|e|e.to_string()));
    }
    let s = serde_json::json!({"type":"object","properties":{"a":{"$ref":"#"}}});
    let v = jsonschema::options().build(&s).unwrap();
    let mut i=serde_json::json!({}); for _ in 0..64 { i=serde_json::json!({"a":i}); }
    let mut i2=serde_json::json!(5); for _ in 0..64 { i2=serde_json::json!({"a":i2}); }
    std::thread::Builder::new().stack_size(384<<10).spawn(move|| { let e=v.is_valid(&i); eprintln!("{e} {:?}", v.iter_errors(&i2).map(|e|e.instance_path().to_string()).collect::<Vec<_>>())}).unwrap().join().unwrap();
  }
}
