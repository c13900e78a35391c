"""The API that a Python team would write: FastAPI, SQLAlchemy and Celery. uvicorn fastapi_celery:api --workers 2"""
import os
import uuid
from datetime import datetime, timezone

from celery import Celery
from celery.result import AsyncResult
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from sqlalchemy import JSON, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

celery = Celery('benches', broker=os.environ['BROKER_URL'], backend=os.environ['RESULT_BACKEND'])
database = create_engine(os.environ['DATABASE_URL'].replace('postgres://', 'postgresql+psycopg://'), pool_size=20, max_overflow=20)
api = FastAPI()


class Base(DeclarativeBase):
    pass


class EventRow(Base):
    __tablename__ = 'python_events'
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    type: Mapped[str]
    data: Mapped[dict] = mapped_column(JSON)
    state: Mapped[str]
    task_id: Mapped[str]
    created_at: Mapped[datetime]


class Task(BaseModel):
    task: str
    args: list = []
    kwargs: dict = {}


class Event(BaseModel):
    type: str
    data: dict


def authorized(authorization: str = Header('')):
    if authorization != 'Bearer ' + os.environ['API_KEYS']:
        raise HTTPException(401)


# Plain functions run in FastAPI's threads, since SQLAlchemy's sessions and send_task block.
@api.post('/v1/tasks', status_code=202, dependencies=[Depends(authorized)])
def send_task(task: Task):
    return {'id': celery.send_task(task.task, args=task.args, kwargs=task.kwargs).id}


@api.get('/v1/tasks/{task_id}', dependencies=[Depends(authorized)])
def task_state(task_id: str):
    result = AsyncResult(task_id, app=celery)
    return {'id': task_id, 'status': result.status, 'result': result.result}


@api.post('/v1/events', status_code=202, dependencies=[Depends(authorized)])
def create_event(event: Event):
    event_id, task_id = uuid.uuid4(), str(uuid.uuid4())
    with Session(database) as session, session.begin():
        session.add(EventRow(
            id=event_id, type=event.type, data=event.data, state='queued', task_id=task_id, created_at=datetime.now(timezone.utc)))
    celery.send_task('process_incoming_event', args=[str(event_id)], task_id=task_id)
    return {'id': str(event_id), 'task_id': task_id}


@api.get('/health')
def health():
    return {'status': 'ok'}


if __name__ == '__main__':
    Base.metadata.create_all(database)
