//! A line chart as SVG: axes with ticks, lines, a legend. No font or colour is taken from outside.

use std::fmt::Write as _;

/// Size of a chart, and the room around its plot.
pub(super) const WIDTH: f64 = 760.0;
pub(super) const HEIGHT: f64 = 330.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 52.0;

/// Room for a character of the legend: 12 px sans-serif is 6.5 px wide on the average.
const LEGEND_CHARACTER: f64 = 7.0;
const LEGEND_KEY: f64 = 26.0;
const LEGEND_GAP: f64 = 18.0;
/// Longer names are cut, so that two fit on the line.
const LEGEND_NAME_CHARACTERS_MAX: usize = 36;

/// How many colours [`STYLE`] has; more lines begin again, dashed.
const COLOURS: usize = 6;

/// Colours for light and dark; the palette is that of Okabe and Ito, for the colour-blind too.
pub(super) const STYLE: &str = "\
.chart text{font:12px sans-serif;fill:#333}
.chart .title{font-size:15px;font-weight:bold}
.chart .back{fill:#fff}
.chart .grid{stroke:#ddd;fill:none}
.chart .axis{stroke:#666;fill:none}
.chart .line{fill:none;stroke-width:2;stroke-linejoin:round}
.chart .dashed{stroke-dasharray:6 4}
.chart .c0{stroke:#0072b2}.chart .c1{stroke:#d55e00}.chart .c2{stroke:#009e73}
.chart .c3{stroke:#cc79a7}.chart .c4{stroke:#e69f00}.chart .c5{stroke:#56b4e9}
@media (prefers-color-scheme:dark){
.chart text{fill:#ccc}
.chart .back{fill:#181818}
.chart .grid{stroke:#3a3a3a}
.chart .axis{stroke:#999}
.chart .c0{stroke:#4aa8e8}
}
";

/// One axis: what it shows, from where to where, and where it is labelled.
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<(f64, String)>,
}

/// One line and its name in the legend. Points are in the units of the axes.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart of lines over two axes.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

impl Axis {
    /// 0 at the low end, 1 at the high end.
    fn share(&self, value: f64) -> f64 {
        let length = self.high - self.low;
        if length > 0.0 { ((value - self.low) / length).clamp(0.0, 1.0) } else { 0.0 }
    }
}

impl Chart {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// The elements of the chart, for an `svg` or `g` of class `chart`.
    pub(super) fn elements(&self) -> String {
        let mut svg = format!(r#"<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>"#);
        svg += &text(LEFT, 24.0, "title", self.title);
        self.draw_x(&mut svg);
        self.draw_y(&mut svg);
        self.lines.iter().enumerate().for_each(|(index, line)| self.draw(index, line, &mut svg));
        self.draw_legend(&mut svg);
        svg
    }

    fn draw_x(&self, svg: &mut String) {
        let bottom = HEIGHT - BOTTOM;
        for (value, label) in &self.x.ticks {
            let x = self.x(*value);
            *svg += &path("grid", &format!("M{x:.1} {TOP}V{bottom}"));
            *svg += &text_at(x, bottom + 18.0, "middle", label);
        }
        *svg += &path("axis", &format!("M{LEFT} {bottom}H{}", WIDTH - RIGHT));
        *svg += &text_at((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10.0, "middle", &self.x.name);
    }

    fn draw_y(&self, svg: &mut String) {
        for (value, label) in &self.y.ticks {
            let y = self.y(*value);
            *svg += &path("grid", &format!("M{LEFT} {y:.1}H{}", WIDTH - RIGHT));
            *svg += &text_at(LEFT - 8.0, y + 4.0, "end", label);
        }
        *svg += &path("axis", &format!("M{LEFT} {TOP}V{}", HEIGHT - BOTTOM));
        let (x, y) = (16.0, (TOP + HEIGHT - BOTTOM) / 2.0);
        let name = escape(&self.y.name);
        let turn = format!(r#"text-anchor="middle" transform="rotate(-90 {x} {y})""#);
        let _ = write!(svg, r#"<text x="{x}" y="{y}" {turn}>{name}</text>"#);
    }

    fn draw(&self, index: usize, line: &Line, svg: &mut String) {
        let mut data = String::new();
        for (position, &(x, y)) in line.points.iter().enumerate() {
            let command = if position == 0 { 'M' } else { 'L' };
            let _ = write!(data, "{command}{:.1} {:.1}", self.x(x), self.y(y));
        }
        if let [only] = line.points.as_slice() {
            // A line of no length is not drawn; a short one is.
            let _ = write!(data, "H{:.1}", self.x(only.0) + 4.0);
        }
        if !data.is_empty() {
            *svg += &path(&class(index), &data);
        }
    }

    /// Names beside each other above the plot; what has no room is counted.
    fn draw_legend(&self, svg: &mut String) {
        let (mut x, y) = (LEFT, 48.0);
        for (index, line) in self.lines.iter().enumerate() {
            let name = shorten(&line.name);
            let width = LEGEND_KEY + name.chars().count() as f64 * LEGEND_CHARACTER + LEGEND_GAP;
            let more = format!("and {} more", self.lines.len() - index);
            let is_last = index + 1 == self.lines.len();
            let room = if is_last { 0.0 } else { more.len() as f64 * LEGEND_CHARACTER };
            if index > 0 && x + width + room > WIDTH - RIGHT {
                *svg += &text_at(x, y, "start", &more);
                return;
            }
            *svg += &path(&class(index), &format!("M{x:.1} {}h20", y - 4.0));
            *svg += &text_at(x + LEGEND_KEY, y, "start", &name);
            x += width;
        }
    }
}

fn class(index: usize) -> String {
    let dashed = if (index / COLOURS).is_multiple_of(2) { "" } else { " dashed" };
    format!("line c{}{dashed}", index % COLOURS)
}

fn shorten(name: &str) -> String {
    if name.chars().count() <= LEGEND_NAME_CHARACTERS_MAX {
        return name.to_owned();
    }
    let kept: String = name.chars().take(LEGEND_NAME_CHARACTERS_MAX - 3).collect();
    kept + "..."
}

fn path(class: &str, data: &str) -> String {
    format!("<path class=\"{class}\" d=\"{data}\"/>\n")
}

fn text(x: f64, y: f64, class: &str, text: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape(text))
}

fn text_at(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = escape(text);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

/// For text and attributes of XML and HTML; characters that XML cannot have are replaced.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\t' | '\n' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}
