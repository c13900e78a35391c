//! Workflows: chains, groups and chords of tasks, sent as Celery's canvas.

use petiole_client::Step;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Object, OpenApi};

use crate::auth::Caller;
use crate::body::Body;
use crate::failures::{Answer, SendTask};
use crate::problem::Problem;
use crate::request_id::RequestId;
use crate::routes::Group;
use crate::routes::tasks::within;
use crate::state::State;
use crate::steps::WorkflowRequest;

#[derive(Clone, Default)]
pub(crate) struct Workflows;

/// A workflow that was sent.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct SentWorkflow {
    /// The task whose result is the workflow's: of a chain the last one, of a group the list of all results, of a chord its
    /// body.
    task_id: String,
    /// The group, or the header of the chord, by which Python's `GroupResult.restore` finds it; null where there is none.
    group_id: Option<String>,
    /// Its state: `PENDING`.
    state: String,
}

impl Example for SentWorkflow {
    fn example() -> Self {
        Self {
            task_id: "5f0c2f0e-6f5b-4c59-a2f2-6f4f3b7c9d10".into(),
            group_id: Some("0b9d3c1c-9a52-4c07-8a43-6f4f3b7c9d11".into()),
            state: "PENDING".into(),
        }
    }
}

#[derive(ApiResponse)]
pub(crate) enum SentWorkflowResponse {
    /// Its first tasks wait for a worker.
    #[oai(status = 202)]
    Sent(
        Json<SentWorkflow>,
        /// Where the task that ends it is followed.
        #[oai(header = "Location")]
        String,
    ),
}

#[OpenApi]
impl Workflows {
    /// Send a workflow
    ///
    /// A `chain` runs its steps one after the other, each with the result of the one before as its first argument (unless
    /// `immutable`). A `group` runs them side by side; its result is the list of their results. A `chord` is a group
    /// (`header`) whose list of results goes to one more step (`body`). Steps are tasks, with every option of
    /// `POST /v1/tasks`, or workflows themselves, as Celery nests them: a group that is followed by a step becomes a chord,
    /// groups within a group are members of it. All messages are sent together or none is. A step that fails ends its
    /// chain or chord: the workflow's task then fails or stays `PENDING`, as in Celery.
    #[oai(path = "/v1/workflows", method = "post", operation_id = "sendWorkflow", tag = "Group::Workflows")]
    async fn send(
        &self,
        state: Data<&State>,
        request_id: RequestId,
        caller: Caller,
        body: Body<WorkflowRequest>,
    ) -> Answer<SentWorkflowResponse, SendTask> {
        let Body(request) = body;
        let survey = request.survey();
        for name in &survey.names {
            caller.check_task(name)?;
            within(state.limits.request, state.tasks.check(name)).await?;
        }
        Problem::refuse(survey.errors)?;
        let plan = state.client.plan(request.into_signature(&request_id))?;
        within(state.limits.request, async { Ok(state.client.apply(&plan).await?) }).await?;
        for step in &plan.steps {
            if let Step::Send { message, queue } = step {
                state.recent.sent(&message.id, &message.task, queue);
            }
        }
        let task_id = plan.handle.id.clone();
        let location = format!("/v1/tasks/{task_id}");
        let group_id = plan.handle.group().map(|group| group.id.clone());
        Ok(SentWorkflowResponse::Sent(Json(SentWorkflow { task_id, group_id, state: "PENDING".into() }), location))
    }
}
