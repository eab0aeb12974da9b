// Contents that several tools and prompts answer with.

/** A PNG picture of one pixel, in base64. */
export const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";

/** A WAV file of one sample, in base64. */
export const SOUND = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA==";

/** The result of a tool that answers with one text. */
export const said = (text) => ({ content: [{ type: "text", text }] });

/** A form with one field that has to be filled in. */
export const form = (field, type = "string") => ({
  type: "object",
  properties: { [field]: { type } },
  required: [field],
});
