//! A line chart as SVG: axes with ticks, lines, a legend. No font or colour is taken from outside.

use std::fmt::Write as _;

/// Width of a chart, size of its plot and the room around it.
pub(super) const WIDTH: f64 = 760.0;
const PLOT_HEIGHT: f64 = 214.0;
const PLOT_TOP: f64 = 64.0;
const BELOW: f64 = 52.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 20.0;

/// Room for a character of the legend: 12 px sans-serif is 6.5 px wide on the average.
const LEGEND_CHARACTER: f64 = 7.0;
const LEGEND_KEY: f64 = 26.0;
const LEGEND_GAP: f64 = 18.0;
const LEGEND_TOP: f64 = 48.0;
const LEGEND_ROW: f64 = 18.0;
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
        self.bottom() - self.y.share(value) * PLOT_HEIGHT
    }

    /// The elements of the chart, for an `svg` or `g` of class `chart`.
    pub(super) fn elements(&self) -> String {
        let height = self.height();
        let mut svg = format!(r#"<rect class="back" width="{WIDTH}" height="{height}"/>"#);
        svg += &text(LEFT, 24.0, "title", self.title);
        self.draw_x(&mut svg);
        self.draw_y(&mut svg);
        self.lines.iter().enumerate().for_each(|(index, line)| self.draw(index, line, &mut svg));
        self.draw_legend(&mut svg);
        svg
    }

    fn draw_x(&self, svg: &mut String) {
        let (top, bottom) = (self.top(), self.bottom());
        for (value, label) in &self.x.ticks {
            let x = self.x(*value);
            *svg += &path("grid", &format!("M{x:.1} {top}V{bottom}"));
            *svg += &text_at(x, bottom + 18.0, "middle", label);
        }
        *svg += &path("axis", &format!("M{LEFT} {bottom}H{}", WIDTH - RIGHT));
        *svg += &text_at((LEFT + WIDTH - RIGHT) / 2.0, bottom + 42.0, "middle", &self.x.name);
    }

    fn draw_y(&self, svg: &mut String) {
        for (value, label) in &self.y.ticks {
            let y = self.y(*value);
            *svg += &path("grid", &format!("M{LEFT} {y:.1}H{}", WIDTH - RIGHT));
            *svg += &text_at(LEFT - 8.0, y + 4.0, "end", label);
        }
        *svg += &path("axis", &format!("M{LEFT} {}V{}", self.top(), self.bottom()));
        let (x, y) = (16.0, (self.top() + self.bottom()) / 2.0);
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

    fn draw_legend(&self, svg: &mut String) {
        if self.has_no_names() {
            return;
        }
        for (index, (line, (x, row))) in self.lines.iter().zip(self.legend()).enumerate() {
            let y = LEGEND_TOP + LEGEND_ROW * row as f64;
            *svg += &path(&class(index), &format!("M{x:.1} {}h20", y - 4.0));
            *svg += &text_at(x + LEGEND_KEY, y, "start", &shorten(&line.name));
        }
    }

    /// The only line is that of the only report, which needs no name.
    fn has_no_names(&self) -> bool {
        self.lines.iter().all(|line| line.name.is_empty())
    }

    /// Where each name of the legend begins, and in which row: beside each other, as many as fit.
    fn legend(&self) -> Vec<(f64, usize)> {
        let (mut x, mut row) = (LEFT, 0);
        let place = |line: &Line| {
            let characters = shorten(&line.name).chars().count();
            let width = LEGEND_KEY + characters as f64 * LEGEND_CHARACTER;
            if x > LEFT && x + width > WIDTH - RIGHT {
                (x, row) = (LEFT, row + 1);
            }
            let begin = x;
            x += width + LEGEND_GAP;
            (begin, row)
        };
        self.lines.iter().map(place).collect()
    }

    /// Room that the second and further rows of the legend take, or that it does not need.
    fn further_rows(&self) -> f64 {
        if self.has_no_names() {
            return -LEGEND_ROW;
        }
        self.legend().last().map_or(0.0, |&(_, row)| LEGEND_ROW * row as f64)
    }

    /// With the legend, whose rows are as many as it needs.
    pub(super) fn height(&self) -> f64 {
        PLOT_TOP + self.further_rows() + PLOT_HEIGHT + BELOW
    }

    fn top(&self) -> f64 {
        PLOT_TOP + self.further_rows()
    }

    fn bottom(&self) -> f64 {
        self.top() + PLOT_HEIGHT
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
