//! The plan as text and as one self-contained page. JSON is the plan itself, serialised.

mod html;
mod text;

pub use html::html;
pub use text::text;
